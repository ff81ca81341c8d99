//! The rules of ARCHITECTURE.md that a reader of the source can check: who may use whom, which names stay where, how
//! long a file may be. Reads `src/` as text; comments and strings do not count.
//!
//! A rule that is in the way is changed here and in ARCHITECTURE.md, in the same commit, with the reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest file, in lines.
const LINES_MAX: usize = 800;

/// The layers, lowest first: a module, and the modules of this crate that it may use beside itself.
///
/// An entry `a::B` allows that one name only: `raid` and `volume` speak of the kernel's tables in plain values that are
/// declared with the ports.
const MAY_USE: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("ids", &[]),
    ("report", &[]),
    ("telemetry", &[]),
    ("lvm2", &["units", "ids", "report"]),
    ("raid", &["units", "ids", "report", "host::DevNo", "host::TargetLine"]),
    ("alloc", &["units", "ids", "report", "lvm2", "raid"]),
    (
        "volume",
        &[
            "units",
            "ids",
            "report",
            "lvm2",
            "alloc",
            "raid",
            "host::DevNo",
            "host::DmInfo",
            "host::TargetLine",
        ],
    ),
    // The simulated machine reads what the product's own parsers say of its disks.
    ("host", &["units", "ids", "report", "raid"]),
    // The words that a front end shows of volumes are those of `volume::info`.
    ("api", &["units", "ids", "report", "volume"]),
    ("engine", &["units", "ids", "report", "lvm2", "alloc", "raid", "volume", "host"]),
    ("http", &["report"]),
    ("metrics", &["units", "ids", "report", "volume"]),
    // Not the engine: it is reached through the ports in `csi::backend`.
    ("csi", &["units", "ids", "report", "volume", "host", "metrics"]),
    // What standalone and a node's agent share: engine, mounts and background work of one pool.
    ("pool", &["units", "ids", "report", "volume", "host", "engine", "csi"]),
    // How a process that serves CSI starts and stops.
    ("serve", &["report", "csi", "http"]),
    (
        "standalone",
        &["units", "ids", "report", "volume", "host", "engine", "csi", "http", "metrics", "pool", "serve"],
    ),
    // Not the engine: disks are the nodes' own.
    ("controller", &["api", "units", "ids", "report", "volume", "csi", "http", "metrics", "serve"]),
    // Never the controller: the two speak through the custom resources, and `csi::remote`.
    (
        "node",
        &[
            "units", "ids", "report", "volume", "host", "engine", "csi", "http", "metrics", "api", "pool",
            "serve",
        ],
    ),
    (
        "cli",
        &[
            "api",
            "units",
            "ids",
            "report",
            "volume",
            "host",
            "engine",
            "pool",
            "csi",
            "serve",
            "standalone",
            "node",
            "controller",
        ],
    ),
];

/// Modules without effects: bytes, strings and values in, values out.
const PURE: &[&str] = &["units", "ids", "report", "lvm2", "raid", "alloc", "volume"];

/// Parts of a front end that are pure too: what it decides, apart from what it does.
const PURE_PARTS: &[&str] = &["node/decide/", "node/pace.rs", "node/tell.rs"];

/// What a pure module never names.
const IMPURE: &[&str] = &[
    "async",
    "tokio",
    "rustix",
    "tracing",
    "Instant",
    "SystemTime",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
];

/// Names that stay in some files: the name, where it may be (a prefix of the path below `src/`), and why.
const STAYS_IN: &[(&str, &[&str], &str)] = &[
    ("tonic", &["csi/"], "gRPC is known to the CSI services only"),
    ("prost", &["csi/"], "generated messages are known to the CSI services only"),
    ("prost_types", &["csi/"], "generated messages are known to the CSI services only"),
    ("rcgen", &["csi/remote/"], "certificates are made by who serves with them"),
    ("devicemapper", &["host/linux/"], "the crate is behind the port DeviceMapper"),
    ("rustix", &["host/linux/"], "system calls are behind the ports"),
    ("unsafe", &["host/linux/dm_ioctl.rs"], "one place makes ioctls of its own"),
    // A program gives an exit status, and a test looks for its own process.
    (
        "std::process",
        &["host/linux/exec.rs", "host/linux/lock_tests.rs", "cli/exit.rs", "main.rs", "bin/"],
        "programs are started, timed and ended in one place",
    ),
    ("host::linux", &["host/", "csi/node/linux.rs", "cli/"], "the engine runs on any machine"),
    ("host::sim", &["host/"], "the simulated machine is for tests"),
    (
        "tokio",
        &[
            "api/client.rs",
            "api/watch.rs",
            "controller/",
            "csi/",
            "node/",
            "pool/",
            "standalone/",
            "http.rs",
            "serve.rs",
            "cli/kubectl/",
            "cli/threads.rs",
        ],
        "below the front ends all calls block",
    ),
    ("kube", &["api/", "controller/", "node/", "cli/kubectl/"], "Kubernetes is known to its front ends only"),
    (
        "k8s_openapi",
        &["api/", "controller/", "node/", "cli/kubectl/"],
        "Kubernetes is known to its front ends only",
    ),
    ("serde_saphyr", &["api/"], "YAML is written for the definitions only"),
    ("schemars", &["api/"], "schemas are made of the custom resources only"),
    ("axum", &["http.rs"], "one module serves HTTP"),
    ("clap", &["cli/", "main.rs", "bin/"], "arguments are read at the edge"),
    ("prometheus_client", &["metrics.rs"], "one module makes metrics"),
    ("tracing_subscriber", &["telemetry.rs"], "one module sets logging up"),
];

/// Calls that change the kernel's devices: in the engine only the executor of steps makes them.
const CHANGES_DEVICES: &[&str] = &[
    ".dm_create(",
    ".dm_load(",
    ".dm_clear(",
    ".dm_suspend(",
    ".dm_suspend_all(",
    ".dm_resume(",
    ".dm_remove(",
    ".dm_protect(",
    ".dm_rename(",
    ".dm_message(",
];

/// Names of modules that say nothing.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "misc"];

/// A source file.
struct Source {
    /// Its path below `src/`, with `/`.
    path: String,
    /// The module at the top: `units`, `lvm2`, … ; `lib`, `main` and `bin` for the roots.
    module: String,
    /// Its text without comments and strings, of as many lines as the file has.
    code: String,
}

impl Source {
    fn line_of(&self, at: usize) -> usize {
        self.code[..at].lines().count().max(1)
    }

    /// Where a path or a word stands by itself in the code.
    fn places(&self, name: &str) -> Vec<usize> {
        let free = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        let stands_alone = |at: &usize| {
            free(self.code[..*at].chars().next_back()) && free(self.code[*at + name.len()..].chars().next())
        };
        self.code.match_indices(name).map(|(at, _)| at).filter(stands_alone).collect()
    }

    /// The paths behind each `crate::`, two names deep: `host`, or `host::DevNo` when a second name follows.
    fn uses(&self) -> Vec<(usize, String)> {
        let mut uses = Vec::new();
        for at in self.places("crate") {
            let Some(rest) = self.code[at + "crate".len()..].strip_prefix("::") else { continue };
            for first in names(rest) {
                let Some(rest) = first.rest else {
                    uses.push((self.line_of(at), first.name));
                    continue;
                };
                let seconds = names(rest);
                uses.extend(
                    seconds
                        .iter()
                        .map(|second| (self.line_of(at), format!("{}::{}", first.name, second.name))),
                );
            }
        }
        uses
    }
}

/// One name of a path, and what follows behind its `::`.
struct Name<'a> {
    name: String,
    rest: Option<&'a str>,
}

/// The name at the start of `text`, or all names of a `{…}` group there.
fn names(text: &str) -> Vec<Name<'_>> {
    let Some(group) = text.strip_prefix('{') else { return one_name(text).into_iter().collect() };
    let mut found = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                found.extend(one_name(group[start..at].trim_start()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found
}

fn one_name(text: &str) -> Option<Name<'_>> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    if end == 0 {
        // `$crate::`, `*`, or nothing.
        return text.starts_with('*').then(|| Name { name: "*".to_owned(), rest: None });
    }
    Some(Name { name: text[..end].to_owned(), rest: text[end..].strip_prefix("::") })
}

/// Replaces comments and the contents of strings by spaces; line breaks stay.
fn without_comments_and_strings(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    let blank = |c: char| if c == '\n' { '\n' } else { ' ' };
    while at < chars.len() {
        let two = (chars[at], chars.get(at + 1).copied());
        match two {
            ('/', Some('/')) => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
            }
            ('/', Some('*')) => {
                while at < chars.len() && !(chars[at] == '*' && chars.get(at + 1) == Some(&'/')) {
                    code.push(blank(chars[at]));
                    at += 1;
                }
                at += 2;
            }
            ('r', Some('"' | '#')) if is_raw_string(&chars, at) => {
                let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
                at += 2 + hashes;
                let ends = |at: usize| {
                    chars[at] == '"'
                        && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
                };
                while at < chars.len() && !ends(at) {
                    code.push(blank(chars[at]));
                    at += 1;
                }
                at += 1 + hashes;
            }
            ('"', _) => {
                at += 1;
                while at < chars.len() && chars[at] != '"' {
                    let skipped = if chars[at] == '\\' { 2 } else { 1 };
                    chars[at..chars.len().min(at + skipped)].iter().for_each(|c| code.push(blank(*c)));
                    at += skipped;
                }
                at += 1;
                code.push(' ');
            }
            // A character; not a lifetime, which has no quote behind it.
            ('\'', Some('\\')) => {
                at += 3;
                while at < chars.len() && chars[at] != '\'' {
                    at += 1;
                }
                at += 1;
            }
            ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => at += 3,
            (c, _) => {
                code.push(c);
                at += 1;
            }
        }
    }
    code
}

fn is_raw_string(chars: &[char], at: usize) -> bool {
    let word = |c: &char| c.is_alphanumeric() || *c == '_';
    let begins = at == 0 || !word(&chars[at - 1]) || chars[at - 1] == 'b';
    begins && chars[at + 1..].iter().find(|c| **c != '#') == Some(&'"')
}

fn root() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the directory is there") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    files.sort();
    assert!(!files.is_empty(), "there is nothing below {}", src.display());
    files
        .iter()
        .map(|file| {
            let parts: Vec<_> = file
                .strip_prefix(&src)
                .expect("below src")
                .iter()
                .map(|part| part.to_string_lossy())
                .collect();
            let text = fs::read_to_string(file).expect("a source file is text");
            Source {
                path: parts.join("/"),
                module: parts[0].trim_end_matches(".rs").to_owned(),
                code: without_comments_and_strings(&text),
            }
        })
        .collect()
}

/// Fails with all that was found, one a line.
fn none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}\n  {}\n", found.join("\n  "));
}

fn is_root(source: &Source) -> bool {
    matches!(source.module.as_str(), "lib" | "main" | "bin")
}

#[test]
fn every_module_has_its_place_among_the_layers() {
    let modules: BTreeSet<String> =
        sources().into_iter().filter(|source| !is_root(source)).map(|source| source.module).collect();
    let known: BTreeSet<String> = MAY_USE.iter().map(|(module, _)| (*module).to_owned()).collect();
    let missing: Vec<String> = modules.symmetric_difference(&known).cloned().collect();
    none("MAY_USE in tests/architecture.rs and the modules below src/ differ:", &missing);
}

#[test]
fn modules_use_only_what_is_below_them() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !is_root(source)) {
        let allowed =
            MAY_USE.iter().find(|(module, _)| *module == source.module).map_or(&[][..], |(_, of)| of);
        for (line, used) in source.uses() {
            let module = used.split("::").next().unwrap_or_default();
            if module != source.module && !allowed.contains(&module) && !allowed.contains(&used.as_str()) {
                found.push(format!("src/{}:{line}: {} may not use {used}", source.path, source.module));
            }
        }
    }
    none("a module uses what is not below it (see the layers in ARCHITECTURE.md):", &found);
}

#[test]
fn no_path_climbs_out_of_its_module() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !is_root(source)) {
        let parts: Vec<&str> = source.path.split('/').collect();
        let depth = parts.len() - usize::from(parts.last() == Some(&"mod.rs"));
        // `super` may be written inside of an inline module of tests, hence one more than the depth of the file, less
        // the one that would be the root.
        let too_many = vec!["super"; depth + 1].join("::");
        found.extend(
            source.places(&too_many).iter().map(|at| format!("src/{}:{}", source.path, source.line_of(*at))),
        );
        if depth == 1 {
            let at_root = source.code.lines().enumerate().filter(|(_, line)| line.starts_with("use super::"));
            found.extend(at_root.map(|(line, _)| format!("src/{}:{}", source.path, line + 1)));
        }
    }
    none("`super` leads out of the module: write `crate::`, so that the layers can be checked:", &found);
}

#[test]
fn pure_modules_have_no_effects() {
    let mut found = Vec::new();
    let is_pure = |source: &&Source| {
        PURE.contains(&source.module.as_str()) || PURE_PARTS.iter().any(|part| source.path.starts_with(part))
    };
    for source in sources().iter().filter(is_pure) {
        for name in IMPURE {
            for at in source.places(name) {
                found.push(format!("src/{}:{}: {name}", source.path, source.line_of(at)));
            }
        }
    }
    none("a pure module names what has effects; take the value as an argument:", &found);
}

#[test]
fn names_stay_where_they_belong() {
    let mut found = Vec::new();
    for source in &sources() {
        for (name, places, why) in STAYS_IN {
            if places.iter().any(|place| source.path.starts_with(place)) {
                continue;
            }
            let written = source.places(name).into_iter().map(|at| source.line_of(at));
            // `crate::host::{linux, …}` says `host::linux` too.
            let grouped = source.uses().into_iter().filter(|(_, used)| used == name).map(|(line, _)| line);
            let lines: BTreeSet<usize> = written.chain(grouped).collect();
            found.extend(lines.iter().map(|line| format!("src/{}:{line}: {name} ({why})", source.path)));
        }
    }
    none("a name is used where it may not be:", &found);
}

#[test]
fn only_the_executor_changes_devices() {
    let mut found = Vec::new();
    let elsewhere =
        |source: &&Source| !source.path.starts_with("host/") && source.path != "engine/execute.rs";
    for source in sources().iter().filter(elsewhere) {
        for call in CHANGES_DEVICES {
            let calls = source.code.match_indices(call);
            found
                .extend(calls.map(|(at, _)| format!("src/{}:{}: {call}…)", source.path, source.line_of(at))));
        }
    }
    none("devices are changed by engine/execute.rs only, as a step:", &found);
}

#[test]
fn no_file_is_too_long() {
    let mut files = Vec::new();
    for dir in ["src", "tests", "xtask"] {
        rust_files(&root().join(dir), &mut files);
    }
    let mut found = Vec::new();
    for file in files {
        let lines = fs::read_to_string(&file).expect("a source file is text").lines().count();
        if lines > LINES_MAX {
            found.push(format!("{}: {lines} lines", file.display()));
        }
    }
    none(&format!("a file has more than {LINES_MAX} lines: split it by what its parts are for:"), &found);
}

#[test]
fn modules_are_named_for_what_they_are_for() {
    let says_nothing = |part: &str| EMPTY_NAMES.contains(&part.trim_end_matches(".rs"));
    let found: Vec<String> = sources()
        .iter()
        .filter(|source| source.path.split('/').any(says_nothing))
        .map(|source| format!("src/{}", source.path))
        .collect();
    none("a module's name says nothing:", &found);
}

#[test]
fn comments_and_strings_do_not_count() {
    let source = |text: &str| Source {
        path: "raid/x.rs".to_owned(),
        module: "raid".to_owned(),
        code: without_comments_and_strings(text),
    };
    let text = "// crate::cli\n/* crate::csi */ let a = \"crate::engine \\\" crate::http\"; let b = r#\"crate::cli\"#;";
    assert_eq!(source(text).uses(), []);
    let text = "fn f<'a>(c: char) -> bool { c == '\"' }\nuse crate::{host::{DevNo, TargetLine}, units};";
    let uses = [(2, "host::DevNo".to_owned()), (2, "host::TargetLine".to_owned()), (2, "units".to_owned())];
    assert_eq!(source(text).uses(), uses);
}
