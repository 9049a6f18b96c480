//! The hint of each failure: what an operator can do about it.

use super::Error;
use crate::secrets_dir::Lack;
use crate::system::exec;
use crate::vault::{self, Class};
use crate::{
    certificate, command, config, dependencies, files, handover, init, mint, secrets_dir,
    wrapping_token,
};

impl Error {
    /// The advice on what to do about the failure.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Usage(_) => {
                "anteroom --help lists the options; the application stands behind `--`"
            }
            Error::Config(config::Error::Unreadable { .. }) => {
                "bake the manifest into the image, or name it with --manifest; the user that anteroom runs as must be able to read it"
            }
            Error::Config(config::Error::Environment { .. }) => {
                "VAULT_ADDR and VAULT_CACERT, or their BAO_ twins, say where Vault is; on the host there is no manifest"
            }
            Error::Config(_) => {
                "correct each place that is named; `anteroom check` looks at the manifest again, though not at this container's variables and users"
            }
            Error::Token(error) => return Some(of_token(error).to_owned()),
            Error::Trust(_) => {
                "it is named by `ca_cert` in [vault], VAULT_CACERT or SSL_CERT_FILE, and holds PEM certificates"
            }
            Error::HandOver(error) => return of_handover(error),
            Error::Certificate(error) => return of_certificate(error),
            Error::Dependency(dependencies::Error::Ended { .. }) => LIVES_TOO_SHORT,
            Error::Dependency(dependencies::Error::Vault { error, dependency }) => {
                return of_answer(error, &format!("[dependencies.{dependency}]"));
            }
            Error::Dependency(dependencies::Error::Leased { .. }) => {
                "remove `refresh` there: what has a lease is renewed and replaced without it. The token was revoked, and that lease with it"
            }
            Error::Dependency(dependencies::Error::Deleted { .. }) => {
                "write a new version of the secret, or undelete it"
            }
            Error::Dependency(_) => {
                "look at the secret in Vault; `fields` names those that the service needs"
            }
            Error::Files(files::Error::KeyStore { .. }) => {
                "this is a defect, please report it; without [java] in the manifest no store is made"
            }
            Error::Files(_) => {
                "compare the manifest's fields and templates with what the path answers"
            }
            Error::SecretsDir(error) => return Some(of_secrets_dir(error).to_owned()),
            Error::Command(command::Error::NotFound { .. }) => {
                "is it in the image, and in PATH? The token was not touched"
            }
            Error::Command(command::Error::InterpreterNotFound { .. }) => {
                "a script needs its interpreter in the image, a dynamic program its loader. The token was not touched"
            }
            Error::Command(command::Error::NotExecutable { .. }) => {
                "COPY --chmod=0755 it, build it for this machine, or shorten its arguments; the token was not touched, or was revoked again"
            }
            Error::Command(command::Error::TooLong { .. }) => {
                "write it to a file in [dependencies.NAME.files] instead; the token was revoked"
            }
            Error::Command(command::Error::Nul) => "no argument and no variable can hold one",
            Error::Init(init::Error::Interrupted { .. } | init::Error::Told { .. }) => return None,
            Error::User(_) | Error::Exec(exec::Error::System(_)) => NEEDS_CAPABILITIES,
            Error::Init(init::Error::Late) => {
                "is Vault reachable, and this machine not overloaded? Start again with a new wrapping token"
            }
            Error::Init(init::Error::Expired) => {
                "start again with a new wrapping token; `on_expiry` in [process] says what happens at a token's end"
            }
            Error::Init(init::Error::KeeperKilled { .. }) => {
                "SIGKILL mostly means that memory ran out; revoke the token's accessor if the log names one"
            }
            Error::System(_) | Error::Init(init::Error::KeeperEnded) => {
                "look at the container's limits: processes, open files, memory"
            }
            Error::Exec(exec::Error::Refused(_)) => {
                "it was found fit a moment before: was it changed? The files were removed and the token was revoked"
            }
            Error::Mint(error) => return of_mint(error),
            Error::CalledOff => return None,
        };
        Some(hint.to_owned())
    }
}

const NEEDS_CAPABILITIES: &str = "`user` in [process] needs the capabilities SETUID, SETGID and CHOWN; or start the container as that user (docker run --user)";
const NOT_VAULT: &str = "is it a Vault that answers at this address, and not a proxy?";

const LIVES_TOO_SHORT: &str =
    "let it live longer, in its role in Vault, or look what else takes so long";

fn of_certificate(error: &certificate::Error) -> Option<String> {
    let table = error.certificate.table();
    let hint = match &error.cause {
        certificate::Cause::Vault(error)
            if error.class() == Class::Refused
                && error.is_not_found()
                && !error.is_about_the_namespace() =>
        {
            format!("are `mount` and `ca_path` in [{table}] right?")
        }
        certificate::Cause::Vault(error) => return of_answer(error, &format!("[{table}]")),
        certificate::Cause::Check { .. } => format!(
            "compare [{table}] with the PKI role: names it may give, its longest ttl, use_csr_common_name and use_csr_sans"
        ),
        certificate::Cause::Ended => LIVES_TOO_SHORT.to_owned(),
        certificate::Cause::Request { .. } => format!("look at [{table}] in the manifest"),
        certificate::Cause::AnchorFile(_) => {
            format!("it is named by `ca_file` in [{table}], and holds PEM certificates")
        }
    };
    Some(hint)
}

fn of_token(error: &wrapping_token::Error) -> &'static str {
    match error {
        wrapping_token::Error::Missing => {
            "set ANTEROOM_TOKEN, or --token-file; on the host `anteroom mint --role ROLE` prints one. Without a Vault: --dry-run"
        }
        wrapping_token::Error::Ambiguous => "hand in exactly one",
        wrapping_token::Error::Source { .. } => {
            "it must be a regular file or a pipe that belongs to this user or to root and that only its owner can read, or the socket of an agent that answers; --token-wait waits for it"
        }
        wrapping_token::Error::Silent { .. } | wrapping_token::Error::InVain { .. } => {
            "is anteroom-agent running on this host, and does it allow this container? Its log says why not. Without an agent, the token was handed in too late"
        }
        wrapping_token::Error::Directory { .. } => {
            "mount it, and have anteroom-agent put the token there, or name another file with --token-file"
        }
        wrapping_token::Error::Refused { .. } => {
            "does anteroom-agent on this host allow this container? Its log says why not"
        }
        wrapping_token::Error::System(_) => {
            "look at the container's limit of open files, and at fs.inotify.max_user_instances and max_user_watches on this host"
        }
        wrapping_token::Error::Malformed { .. } => {
            "hand in the wrapping token alone, or the JSON that `vault` and `bao` print"
        }
    }
}

fn of_handover(error: &handover::Error) -> Option<String> {
    let revoke = |accessor: &Option<String>| match accessor {
        Some(accessor) => format!("revoke the client token by its accessor {accessor}"),
        None => {
            "revoke the client token by the wrapped_accessor that the minting side holds".to_owned()
        }
    };
    Some(match error {
        handover::Error::NotValid { wrapped_accessor, .. } => format!(
            "if this container was restarted, it was given the same token again: mint one for each start. If not, look in Vault's audit log for who unwrapped it, and {}",
            revoke(wrapped_accessor)
        ),
        handover::Error::NotPromised { .. } => {
            "do not retry: either [service] or [token] in the manifest, a variable in them, or what mints the token is wrong, or an attacker has put another token in the place of the right one. Look in Vault's audit log".to_owned()
        }
        handover::Error::Misspelt { key, .. } => format!(
            "correct {key}, or what mints the token, wherever the typing error is. If there is none, do not retry: an attacker has put another token in the place of the right one. Look in Vault's audit log"
        ),
        handover::Error::Unknown { wrapped_accessor, .. } => {
            format!("start again with a new wrapping token, and {}", revoke(wrapped_accessor))
        }
        // A hand-over asks no path that a manifest names.
        handover::Error::Vault(error)
            if error.class() == Class::Refused && !error.is_about_the_namespace() =>
        {
            NOT_VAULT.to_owned()
        }
        handover::Error::Vault(error) => return of_answer(error, "[vault]"),
    })
}

fn of_mint(error: &mint::Error) -> Option<String> {
    let hint = match error {
        mint::Error::Usage(_) => return None,
        mint::Error::Missing => {
            "set VAULT_TOKEN (or BAO_TOKEN), name a file with --issuer-token-file, or log in with `vault login` or `bao login`"
        }
        mint::Error::Ambiguous { .. } => "give exactly one",
        mint::Error::Source { .. } => {
            "it must be a regular file that belongs to this user or to root and that only its owner can read"
        }
        mint::Error::Malformed { .. } => "it must hold the token alone",
        mint::Error::NotPrinted { .. } => {
            "mint another; the wrapping token ends by itself, and the client token can be revoked by its accessor"
        }
        mint::Error::Vault(error) => return of_answer_to_mint(error),
    };
    Some(hint.to_owned())
}

fn of_answer_to_mint(error: &vault::Error) -> Option<String> {
    let hint = match error.class() {
        Class::Away if matches!(error, vault::Error::Unknown { .. }) => return None,
        Class::Away | Class::Failed => "is Vault up, unsealed and reachable from this host?",
        Class::Untrusted => {
            "does Vault speak https there (a dev server speaks http), is VAULT_CACERT its CA, the address the name on its certificate, and this machine's clock right?"
        }
        Class::Denied => {
            let (_, path) = error.request()?;
            return Some(format!(
                "the issuing token's policy must grant `update` on {path}, and permit a --wrap-ttl as long as this; a token that has expired is refused in the same way. `anteroom policy --minter` prints the policy"
            ));
        }
        Class::Refused if error.is_about_the_namespace() => {
            "is VAULT_NAMESPACE (or BAO_NAMESPACE) one of this Vault's?"
        }
        Class::Refused => "compare --role, --policy and --ttl with the token role in Vault",
        Class::Redirected => {
            "VAULT_ADDR must be an address of the active node, or of what leads to it"
        }
        Class::Foreign | Class::Unexpected => NOT_VAULT,
        Class::Barred => "speak https to it",
        Class::Local => "look at the limit of open files (ulimit -n)",
        Class::CalledOff => return None,
    };
    Some(hint.to_owned())
}

fn of_answer(error: &vault::Error, table: &str) -> Option<String> {
    let hint = match error.class() {
        // The failure's own text says what is open.
        Class::Away if matches!(error, vault::Error::Unknown { .. }) => return None,
        Class::Away | Class::Failed => {
            "is Vault up, unsealed and reachable from this container? Start again with a new wrapping token"
        }
        Class::Untrusted => {
            "does Vault speak https there (a dev server speaks http), is `ca_cert` its CA, the address the name on its certificate, and this machine's clock right?"
        }
        Class::Denied => {
            let (method, path) = error.request()?;
            let capability = if method == "GET" { "read" } else { "update" };
            return Some(format!(
                "the service's policy must grant `{capability}` on {path}; a token that was revoked is refused in the same way"
            ));
        }
        Class::Refused if error.is_about_the_namespace() => {
            "is `namespace` in [vault] right, or VAULT_NAMESPACE, which wins over it?"
        }
        Class::Refused if error.is_not_found() => {
            return Some(format!(
                "is the path in {table} right? A secret of KV version 2 has `data/` behind its mount"
            ));
        }
        Class::Refused => return Some(format!("compare {table} with the role in Vault")),
        Class::Redirected => {
            "a standby may redirect to the address's own host or to one of `standby_hosts`, and an unwrap to the former only"
        }
        Class::Foreign | Class::Unexpected => NOT_VAULT,
        Class::Barred => {
            "speak https to it; or, where that network can be trusted, `allow_http = true` in [vault]"
        }
        Class::Local => "look at the container's limit of open files",
        Class::CalledOff => return None,
    };
    Some(hint.to_owned())
}

fn of_secrets_dir(error: &secrets_dir::Error) -> &'static str {
    match error {
        secrets_dir::Error::NotTmpfs { .. } => {
            "mount one: docker run --tmpfs /run/secrets, for a service --mount type=tmpfs,target=/run/secrets, which holds Docker Swarm's own secrets too; or mount it elsewhere, such as at /run/anteroom, and name it with --secrets-dir, ANTEROOM_SECRETS_DIR or `directory` in [secrets]. `allow_disk = true` there does without"
        }
        secrets_dir::Error::ReadOnly { .. } => {
            "its mount is read-only: mount a tmpfs elsewhere, such as at /run/anteroom, and name it with --secrets-dir, ANTEROOM_SECRETS_DIR or `directory` in [secrets]"
        }
        secrets_dir::Error::Taken { .. } => {
            "what is there is left alone; choose another name in the manifest, or another --secrets-dir"
        }
        secrets_dir::Error::Kept { .. } => {
            "each start needs a directory of its own; a program beside the application needs no anteroom: docker exec CONTAINER sh. Nothing in the directory was changed, and the token was not touched. Where no anteroom runs, another program has locked `..keeper`, which `lslocks` names"
        }
        secrets_dir::Error::Unwritable {
            lack: lack @ (Lack::Inodes | Lack::Descriptors),
            ..
        }
        | secrets_dir::Error::Write { lack, .. } => of_lack(*lack),
        secrets_dir::Error::Unusable { .. } | secrets_dir::Error::Unwritable { .. } => {
            "it must exist, belong to root or this user, let the application in, and have 256 KiB to spare: docker run --tmpfs /run/secrets. At a restart Docker gives it the mode of the image's directory: have one with mode 1777, or --tmpfs /run/secrets:uid=UID"
        }
    }
}

fn of_lack(lack: Lack) -> &'static str {
    match lack {
        Lack::Bytes => "is the tmpfs full? Its size is an option of the mount",
        Lack::Inodes => {
            "the tmpfs takes no more files: how many it takes is an option of the mount, `nr_inodes`"
        }
        Lack::Descriptors => {
            "look at the container's limit of open files, as with docker run --ulimit nofile"
        }
        Lack::FileSize => {
            "a limit on the size of files is in force (RLIMIT_FSIZE): raise it, as with docker run --ulimit fsize"
        }
        Lack::Other => "is it still mounted, writable and this user's?",
    }
}
