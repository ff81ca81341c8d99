//! Certificates, and the kubeconfig files that use them: every program of the bed proves who it is, as in any cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use super::plan::{CONTROL_PLANE, NodeId, SERVICE};
use crate::cmd;

/// A new key on a curve that is made in no time.
const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/// The certificates of one cluster.
#[derive(Debug)]
pub struct Pki {
    dir: PathBuf,
}

/// A certificate, or a bare public key, and its private key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The public part.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Pki {
    /// Makes a certificate authority, the API server's own certificates and the key of service accounts.
    pub fn create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let pki = Self { dir: dir.to_owned() };
        let Pair { cert, key } = pki.pair("authority");
        openssl(
            &["req", "-x509", "-subj", "/CN=splitmirror-bed"],
            &NEW_KEY,
            &[("-out", &cert), ("-keyout", &key)],
        )?;
        let names = format!(
            "subjectAltName=IP:{CONTROL_PLANE},IP:{SERVICE},IP:127.0.0.1,DNS:localhost,\
             DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
        );
        pki.issue("apiserver", "/CN=kube-apiserver", &["-addext", &names])?;
        pki.issue("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client", &[])?;
        let accounts = pki.accounts();
        let kind = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
        openssl(&kind, &[], &[("-out", &accounts.key)])?;
        openssl(&["pkey", "-pubout"], &[], &[("-in", &accounts.key), ("-out", &accounts.cert)])?;
        Ok(pki)
    }

    /// A certificate of this name that was issued before.
    pub fn pair(&self, name: &str) -> Pair {
        Pair { cert: self.dir.join(format!("{name}.crt")), key: self.dir.join(format!("{name}.key")) }
    }

    /// Who signs all others.
    pub fn authority(&self) -> PathBuf {
        self.pair("authority").cert
    }

    /// The keys of service accounts' tokens, the public one first.
    pub fn accounts(&self) -> Pair {
        self.pair("accounts")
    }

    /// A kubeconfig of the user that `subject` names.
    pub fn kubeconfig(&self, name: &str, subject: &str) -> Result<PathBuf> {
        let Pair { cert, key } = self.issue(name, subject, &[])?;
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "bed",
                "cluster": {
                    "server": format!("https://{CONTROL_PLANE}"),
                    "certificate-authority": self.authority(),
                },
            }],
            "users": [{ "name": name, "user": { "client-certificate": cert, "client-key": key } }],
            "contexts": [{ "name": "bed", "context": { "cluster": "bed", "user": name } }],
            "current-context": "bed",
        });
        let path = self.dir.join(format!("{name}.kubeconfig"));
        fs::write(&path, format!("{text:#}\n")).with_context(|| format!("writing {}", path.display()))?;
        // kubectl and helm warn of anything more.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&path, private).with_context(|| format!("protecting {}", path.display()))?;
        Ok(path)
    }

    /// The kubeconfig of a node's kubelet.
    pub fn node(&self, node: NodeId) -> Result<PathBuf> {
        let name = node.name();
        self.kubeconfig(&name, &format!("/O=system:nodes/CN=system:node:{name}"))
    }

    fn issue(&self, name: &str, subject: &str, more: &[&str]) -> Result<Pair> {
        let (authority, pair) = (self.pair("authority"), self.pair(name));
        let files: [(&str, &Path); 4] = [
            ("-CA", &authority.cert),
            ("-CAkey", &authority.key),
            ("-out", &pair.cert),
            ("-keyout", &pair.key),
        ];
        // Else it would say that it is an authority itself, which not every client takes from a server.
        let own = ["req", "-x509", "-extensions", "v3_req", "-subj", subject];
        openssl(&own, &[&NEW_KEY, more].concat(), &files)?;
        Ok(pair)
    }
}

fn openssl(what: &[&str], more: &[&str], files: &[(&str, &Path)]) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(what).args(more);
    for (option, path) in files {
        command.arg(option).arg(path);
    }
    cmd::stdout(&mut command).map(|_| ())
}
