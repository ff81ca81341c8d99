//! Every crate we use has a licence that `deny.toml` allows, and comes from where it may come from.
//!
//! `deny.toml` is `cargo deny`'s own file; this is the part of that tool that we rely on, so that a test run
//! needs no more than cargo.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cargo::Metadata;

/// The part of `deny.toml` that is read here.
#[derive(Debug, Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

/// A licence that only one crate may have.
#[derive(Debug, Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    #[serde(default)]
    deny: Vec<Ban>,
}

/// A crate that must not be used.
#[derive(Debug, Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

/// Checks all crates that are built on this machine.
pub fn check() -> Result<()> {
    let text = fs::read_to_string("deny.toml").context("reading deny.toml")?;
    let deny: Deny = toml::from_str(&text).context("parsing deny.toml")?;
    let packages = Metadata::all()?.packages;
    let exceptions: HashMap<&str, &Exception> =
        deny.licenses.exceptions.iter().map(|exception| (exception.name.as_str(), exception)).collect();
    let mut wrong = Vec::new();
    for package in &packages {
        let name = format!("{} {}", package.name, package.version);
        let exception = exceptions.get(package.name.as_str());
        let allowed = |licence: &str| {
            deny.licenses.allow.iter().chain(exception.iter().flat_map(|e| &e.allow)).any(|ok| ok == licence)
        };
        match package.license.as_deref() {
            None => wrong.push(format!("{name} names no licence")),
            Some(licence) => match is_satisfied(licence, &allowed) {
                Ok(true) => {}
                Ok(false) => wrong.push(format!("{name} is under {licence}")),
                Err(error) => wrong.push(format!("{name}: {error:#}")),
            },
        }
        if package.source.as_deref().is_some_and(|source| !source.starts_with("registry+")) {
            wrong.push(format!("{name} comes from {}", package.source.as_deref().unwrap_or_default()));
        }
        if let Some(ban) = deny.bans.deny.iter().find(|ban| ban.name == package.name) {
            wrong.push(format!("{name} is banned: {}", ban.reason));
        }
    }
    for exception in exceptions.keys() {
        if !packages.iter().any(|package| package.name == *exception) {
            wrong.push(format!("deny.toml has an exception for {exception}, which is not used"));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    Ok(())
}

/// Whether an SPDX expression can be fulfilled with the allowed licences.
fn is_satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Result<bool> {
    // Before SPDX, crates wrote `/` for `OR`.
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let satisfied = any_of(&mut words, allowed).with_context(|| format!("licence `{expression}`"))?;
    if let Some(rest) = words.next() {
        bail!("licence `{expression}`: `{rest}` is not expected");
    }
    Ok(satisfied)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> Result<bool> {
    let mut satisfied = all_of(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        satisfied |= all_of(words, allowed)?;
    }
    Ok(satisfied)
}

fn all_of(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> Result<bool> {
    let mut satisfied = term(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        satisfied &= term(words, allowed)?;
    }
    Ok(satisfied)
}

fn term(words: &mut Words<'_>, allowed: &dyn Fn(&str) -> bool) -> Result<bool> {
    match words.next().context("it ends too early")? {
        "(" => {
            let satisfied = any_of(words, allowed)?;
            if words.next() != Some(")") {
                bail!("a `)` is missing");
            }
            Ok(satisfied)
        }
        word @ (")" | "AND" | "OR" | "WITH") => bail!("`{word}` is not expected"),
        licence => match words.next_if_eq(&"WITH") {
            None => Ok(allowed(licence)),
            Some(_) => {
                let exception = words.next().context("it ends too early")?;
                // An exception only gives more freedom, so the bare licence is enough.
                Ok(allowed(licence) || allowed(&format!("{licence} WITH {exception}")))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(expression: &str) -> bool {
        is_satisfied(expression, &|licence| ["MIT", "Apache-2.0"].contains(&licence)).unwrap()
    }

    #[test]
    fn one_of_several_is_enough() {
        assert!(ok("MIT"));
        assert!(ok("GPL-3.0 OR MIT"));
        assert!(ok("MIT/GPL-3.0"));
        assert!(!ok("GPL-3.0 OR MPL-2.0"));
    }

    #[test]
    fn and_binds_stronger_than_or() {
        assert!(ok("GPL-3.0 AND MIT OR Apache-2.0"));
        assert!(!ok("GPL-3.0 AND (MIT OR Apache-2.0)"));
        assert!(ok("(MIT OR GPL-3.0) AND Apache-2.0"));
    }

    #[test]
    fn an_exception_does_no_harm() {
        assert!(ok("Apache-2.0 WITH LLVM-exception"));
        assert!(!ok("GPL-2.0 WITH Classpath-exception-2.0"));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for text in ["", "MIT OR", "(MIT", "MIT)", "OR MIT", "MIT Apache-2.0"] {
            assert!(is_satisfied(text, &|_| true).is_err(), "{text}");
        }
    }
}
