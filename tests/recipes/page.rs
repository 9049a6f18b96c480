//! The pages of `docs/recipes` as images: their blocks become files, where the Dockerfile on the page copies them.

#![expect(clippy::disallowed_methods, reason = "a test builds what a page shows")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{
    Admin, Anteroom, OpenBao, Pki, TempDir, Wrapped, open_tmpfs_dir, repository, unique,
};

/// The environment in which every page runs.
pub(super) const ENVIRONMENT: &str = "production";
/// The place of a manifest in an image.
const MANIFEST: &str = "/etc/anteroom.toml";

/// A page, as it is written.
pub(super) struct Page {
    name: String,
    text: String,
}

impl Page {
    /// Reads `docs/<name>.md`.
    pub(super) fn read(name: &str) -> Self {
        let path = repository().join(format!("docs/{name}.md"));
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self {
            name: name.to_owned(),
            text,
        }
    }

    /// The block below the line that holds this name alone, as in `` `nginx.conf`: ``.
    #[track_caller]
    pub(super) fn block(&self, name: &str) -> &str {
        let title = format!("\n`{name}`:\n\n```");
        let mut found = self.text.split(&*title).skip(1);
        let block = found.next().and_then(|rest| {
            let (_, rest) = rest.split_once('\n')?;
            rest.split_once("\n```\n").map(|(block, _)| block)
        });
        let block = block.unwrap_or_else(|| panic!("{}.md has no block {name}", self.name));
        assert!(found.next().is_none(), "{}.md has two {name}", self.name);
        block
    }

    /// The text on the page between these two.
    #[track_caller]
    pub(super) fn between(&self, begin: &str, end: &str) -> &str {
        let rest = self.text.split_once(begin).map(|(_, rest)| rest);
        let found = rest.and_then(|rest| rest.split_once(end));
        let found = found.unwrap_or_else(|| panic!("{}.md has no {begin}", self.name));
        found.0
    }

    /// The names of the page's Dockerfiles.
    pub(super) fn dockerfiles(&self) -> Vec<String> {
        let titles = self.text.lines().filter_map(|line| {
            let name = line.strip_prefix('`')?.strip_suffix("`:")?;
            name.starts_with("Dockerfile").then(|| name.to_owned())
        });
        titles.collect()
    }

    /// The instructions of the Dockerfile with this word, without it.
    fn instructions(&self, dockerfile: &str, word: &str) -> Vec<String> {
        let lines = self.block(dockerfile).lines();
        let found = lines.filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        found.map(|line| line.trim().to_owned()).collect()
    }
}

/// The image of a page, laid out below a directory of the test's own.
pub(super) struct Image {
    page: Page,
    dockerfile: String,
    root: TempDir,
    secrets: TempDir,
    own: Vec<(String, String)>,
}

impl Image {
    /// Lays out what the page's Dockerfile copies; `own` has what is another thing here, such as a port.
    pub(super) fn build(name: &str, own: &[(&str, &str)]) -> Self {
        Self::of("Dockerfile", name, own)
    }

    /// The same for a Dockerfile of another name.
    pub(super) fn of(dockerfile: &str, name: &str, own: &[(&str, &str)]) -> Self {
        let page = Page::read(&format!("recipes/{name}"));
        let (root, secrets) = (TempDir::new(), open_tmpfs_dir());
        fs::create_dir(root.join("tmp")).expect("our own directory can be written");
        // Any user may be the application's.
        for directory in [&root.join("tmp"), secrets.path()] {
            let writable = fs::Permissions::from_mode(0o1777);
            fs::set_permissions(directory, writable).expect("chmod of our own directory");
        }
        let mut own: Vec<(String, String)> = own
            .iter()
            .map(|(there, here)| ((*there).to_owned(), (*here).to_owned()))
            .collect();
        for (there, here) in [
            ("/run/secrets", secrets.path()),
            ("/tmp", &root.join("tmp")),
            ("/app", &root.join("app")),
        ] {
            own.push((there.to_owned(), here.display().to_string()));
        }
        let copies = page.instructions(dockerfile, "COPY");
        let copies: Vec<(u32, String, String)> = copies.iter().filter_map(|c| copy(c)).collect();
        for (_, _, target) in &copies {
            let here = below(&root, target).display().to_string();
            own.push((target.clone(), here));
        }
        let image = Self {
            page,
            dockerfile: dockerfile.to_owned(),
            root,
            secrets,
            own,
        };
        for (mode, source, target) in copies {
            let path = image.path(&target);
            let text = image.localised(image.page.block(&source));
            fs::create_dir_all(path.parent().expect("it has one")).expect("our own directory");
            image
                .root
                .write(target.trim_start_matches('/'), text + "\n");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own file");
        }
        image
    }

    /// Runs the part of the Dockerfile's `RUN` that begins with this word, as a build does.
    #[track_caller]
    pub(super) fn run(&self, program: &str) {
        let lines = self.page.instructions(&self.dockerfile, "RUN");
        let mut parts = lines.iter().flat_map(|line| line.split(" && "));
        let part = parts.find(|part| part.starts_with(program));
        let part = part.unwrap_or_else(|| panic!("{}.md runs no {program}", self.page.name));
        let done = Command::new("/bin/sh")
            .args(["-c", &self.localised(part)])
            .env("PATH", path())
            .output()
            .expect("a shell can be started");
        assert!(done.status.success(), "{done:#?}");
    }

    /// Where a file of the image lies here.
    pub(super) fn path(&self, target: &str) -> PathBuf {
        below(&self.root, target)
    }

    /// The page itself.
    pub(super) fn page(&self) -> &Page {
        &self.page
    }

    /// The secrets directory.
    pub(super) fn secrets(&self) -> &Path {
        self.secrets.path()
    }

    /// A text of the page with this machine's directories and ports.
    fn localised(&self, text: &str) -> String {
        // In one pass: what was put in is not looked at again.
        let mut rest = text;
        let mut done = String::new();
        while !rest.is_empty() {
            let mut found: Vec<&(String, String)> = self.own.iter().collect();
            found.retain(|(there, _)| rest.starts_with(there.as_str()));
            let longest = found.into_iter().max_by_key(|(there, _)| there.len());
            let length = match longest {
                Some((there, here)) => {
                    done.push_str(here);
                    there.len()
                }
                None => {
                    let next = rest.chars().next().expect("it is not empty");
                    done.push(next);
                    next.len_utf8()
                }
            };
            rest = &rest[length..];
        }
        done
    }

    /// The words of a Dockerfile's `CMD` or `ENTRYPOINT`.
    fn words(&self, instruction: &str) -> Vec<String> {
        let lines = self.page.instructions(&self.dockerfile, instruction);
        let line = lines.last().expect("the page's image has one");
        let words: Vec<String> = serde_json::from_str(line).expect("a list of words");
        words.iter().map(|word| self.localised(word)).collect()
    }

    /// A start of the image's command, as `ENTRYPOINT` and `CMD` say.
    pub(super) fn call(&self) -> Anteroom {
        let entrypoint = self.words("ENTRYPOINT");
        assert_eq!(entrypoint, ["/anteroom", "--"], "{}.md", self.page.name);
        self.anteroom().command(self.words("CMD"))
    }

    /// A call with the image's manifest and the variables of `ENV`.
    pub(super) fn anteroom(&self) -> Anteroom {
        let manifest = fs::read_to_string(self.path(MANIFEST)).expect("the page copies it");
        let call = Anteroom::new()
            .manifest(manifest)
            .secrets_dir(self.secrets())
            .env("ENVIRONMENT", ENVIRONMENT)
            .env("PATH", path());
        let lines = self.page.instructions(&self.dockerfile, "ENV");
        lines.iter().fold(call, |call, line| {
            let (name, value) = line.split_once('=').expect("one variable in a line");
            call.env(name, self.localised(value))
        })
    }
}

/// A program that scripts/install has put below `.cache`.
pub(super) fn program(name: &str) -> PathBuf {
    let places = path();
    let mut places = places.split(':').map(|place| Path::new(place).join(name));
    let found = places.find(|place| place.is_file());
    found.unwrap_or_else(|| panic!("no {name}: run scripts/install recipes"))
}

/// The search path: what scripts/install has put below `.cache` comes first.
fn path() -> String {
    let own = ["", "/haproxy/usr/sbin"].map(|directory| {
        let directory = format!(".cache{directory}");
        repository().join(directory).display().to_string()
    });
    let system = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
    format!("{}:{system}", own.join(":"))
}

/// A file that a `COPY` takes off the page: mode, source and target.
fn copy(instruction: &str) -> Option<(u32, String, String)> {
    let mut words: Vec<&str> = instruction.split(' ').collect();
    let mode = words[0].strip_prefix("--chmod=").map(|mode| {
        let mode = u32::from_str_radix(mode, 8);
        mode.expect("an octal mode")
    });
    if mode.is_some() {
        words.remove(0);
    }
    let [source, target] = words[..] else {
        panic!("COPY {instruction}: one source and one target")
    };
    // A folder holds what others make, such as libraries; the test puts it there.
    let is_on_page = source != "anteroom" && !source.ends_with('/');
    is_on_page.then(|| (mode.unwrap_or(0o644), source.to_owned(), target.to_owned()))
}

fn below(root: &TempDir, target: &str) -> PathBuf {
    root.join(target.trim_start_matches('/'))
}

/// The service of a page as Vault knows it, in a namespace of its own.
pub(super) struct Vault {
    pub(super) admin: Admin,
    role: String,
}

impl Vault {
    /// A namespace in which the service may do what the manifest of this call needs, as `anteroom policy` says.
    pub(super) fn of(call: Anteroom, app: &str) -> Self {
        let admin = OpenBao::shared().namespace(&unique("recipe"));
        let role = format!("{app}-{ENVIRONMENT}");
        let vault = Self { admin, role };
        let policy = vault.reach(call.without_secrets_dir().arg("policy"));
        let policy = policy.run();
        policy.assert_code(0);
        vault.admin.policy(&vault.role, &policy.stdout);
        let role = json!({"orphan": true, "renewable": true, "allowed_policies": [vault.role]});
        vault.admin.token_role(&vault.role, role);
        vault
    }

    /// A CA at this mount, with a role whose certificates live for `ttl` when no life is asked for.
    pub(super) fn enable_pki(&self, mount: &str, role: &str, ttl: &str) -> Pki {
        let pki = self.admin.enable_pki(mount);
        let role_of = json!({
            "allowed_domains": ["example.io"],
            "allow_subdomains": true,
            "key_type": "any",
            "ttl": ttl,
            "max_ttl": "72h",
        });
        self.admin.pki_role(mount, role, role_of);
        pki
    }

    /// Tells a call where this Vault is.
    pub(super) fn reach(&self, call: Anteroom) -> Anteroom {
        let namespace = self.admin.namespace_path().expect("it has one");
        call.env("VAULT_ADDR", self.admin.address())
            .env("VAULT_NAMESPACE", namespace)
    }

    /// The same, with a token for a start.
    pub(super) fn introduce(&self, call: Anteroom) -> Anteroom {
        self.reach(call).token(self.mint())
    }

    fn mint(&self) -> Wrapped {
        let body: Value = json!({"ttl": "1h", "policies": [self.role]});
        self.admin.mint(&self.role, "30s", body)
    }
}
