use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::*;
use crate::config::CertificateName;
use crate::keeper::trouble::Trouble;
use crate::secrets_dir::Lack;
use crate::vault::Error as VaultError;

const FAILED: &str = "failed";

/// Words that a hint holds, or none where there is no hint.
type Words = Option<&'static str>;

fn x() -> String {
    "x".to_owned()
}

fn file() -> PathBuf {
    PathBuf::from("/x")
}

fn ca_file() -> vault::TrustError {
    vault::TrustError {
        path: file(),
        reason: x(),
    }
}

fn status(status: u16, request: &str, error: &str) -> vault::Error {
    vault::Error::Status {
        request: request.to_owned(),
        status,
        errors: vec![error.to_owned()],
        has_data: false,
    }
}

fn not_valid(accessor: Option<&str>) -> Error {
    Error::HandOver(handover::Error::NotValid {
        after_lookup: false,
        wrapped_accessor: accessor.map(str::to_owned),
    })
}

fn unknown(accessor: Option<&str>) -> Error {
    Error::HandOver(handover::Error::Unknown {
        reason: x(),
        wrapped_accessor: accessor.map(str::to_owned),
    })
}

fn not_promised() -> Error {
    Error::HandOver(handover::Error::NotPromised { what: x() })
}

fn misspelt() -> Error {
    Error::HandOver(handover::Error::Misspelt {
        key: "`app` in [service]",
        written: x(),
        found: x(),
    })
}

fn of_certificate(cause: certificate::Cause) -> Error {
    let certificate = CertificateName::Main;
    Error::Certificate(certificate::Error { certificate, cause })
}

fn of_certificate_kafka(cause: certificate::Cause) -> Error {
    let certificate = CertificateName::Further("kafka".to_owned());
    Error::Certificate(certificate::Error { certificate, cause })
}

fn of_a_dependency(error: vault::Error) -> Error {
    Error::Dependency(dependencies::Error::Vault {
        dependency: "db".to_owned(),
        error,
    })
}

fn refused() -> system::Error {
    system::Error {
        step: "x",
        errno: Errno::EPERM,
    }
}

fn exec(errno: Errno) -> Error {
    Error::Exec(exec::Error::Refused(errno))
}

fn unwritable(lack: Lack) -> Error {
    Error::SecretsDir(secrets_dir::Error::Unwritable {
        path: file(),
        reason: x(),
        lack,
    })
}

fn not_written(lack: Lack) -> Error {
    Error::SecretsDir(secrets_dir::Error::Write {
        path: file(),
        reason: x(),
        lack,
    })
}

fn not_printed(accessor: &str) -> Error {
    Error::Mint(mint::Error::NotPrinted {
        reason: x(),
        wrapped_accessor: accessor.to_owned(),
    })
}

/// Every way in which a start fails: a sentence, the exit code, the event, words of the hint, and the error. What Vault
/// answers is in a table of its own.
#[rustfmt::skip]
fn failures() -> Vec<(&'static str, u8, &'static str, Words, Error)> {
    use {certificate as cert, dependencies as dep, handover as hand, init, mint, secrets_dir as dir, wrapping_token as token};
    vec![
        ("the command line is wrong", 64, FAILED, Some("--help"), Error::Usage(x())),

        ("there is no manifest", 78, FAILED, Some("--manifest"), Error::Config(config::Error::Unreadable { manifest: file(), reason: x() })),
        ("the manifest is wrong", 78, FAILED, Some("`anteroom check`"), Error::Config(config::Error::Mistakes { manifest: file(), mistakes: Vec::new() })),
        ("a mint's environment is wrong", 78, FAILED, Some("VAULT_ADDR"), Error::Config(config::Error::Environment { mistakes: Vec::new() })),
        ("Vault's CA cannot be read", 78, FAILED, Some("`ca_cert`"), Error::Trust(ca_file())),

        ("no wrapping token", 66, FAILED, Some("anteroom mint"), Error::Token(token::Error::Missing)),
        ("two wrapping tokens", 64, FAILED, Some("exactly one"), Error::Token(token::Error::Ambiguous)),
        ("its file cannot be used", 66, FAILED, Some("only its owner can read"), Error::Token(token::Error::Source { origin: x(), reason: x() })),
        ("its pipe is silent", 66, FAILED, Some("is anteroom-agent running"), Error::Token(token::Error::Silent { origin: x() })),
        ("it was waited for in vain", 66, FAILED, Some("is anteroom-agent running"), Error::Token(token::Error::InVain { origin: x(), waited: Duration::ZERO, is_cut: false, reason: "" })),
        ("its directory is not there", 66, FAILED, Some("mount it"), Error::Token(token::Error::Directory { path: x(), reason: x() })),
        ("the agent gives none", 66, FAILED, Some("allow this container"), Error::Token(token::Error::Refused { origin: x(), reason: x() })),
        ("it cannot be waited for", 71, FAILED, Some("fs.inotify"), Error::Token(token::Error::System(refused()))),
        ("what was handed in is no token", 65, FAILED, Some("the wrapping token alone"), Error::Token(token::Error::Malformed { length: 1, reason: "" })),

        ("the wrapping token is not valid", 80, "wrapping_token_not_valid", Some("audit log"), not_valid(None)),
        ("the token is not the promised one", 81, "wrapping_token_not_promised", Some("do not retry"), not_promised()),
        ("a typing error may be why", 81, "wrapping_token_not_promised", Some("correct `app` in [service]"), misspelt()),
        ("the unwrap may have been done", 82, "unwrap_outcome_unknown", Some("a new wrapping token"), unknown(None)),
        ("Vault does not know a path of the hand-over", 78, FAILED, Some("not a proxy"), Error::HandOver(hand::Error::Vault(status(404, "GET x", "")))),
        ("Vault does not know the namespace", 78, FAILED, Some("`namespace` in [vault]"), Error::HandOver(hand::Error::Vault(status(404, "GET x", "namespace not found")))),
        ("Vault refuses the hand-over", 78, FAILED, Some("not a proxy"), Error::HandOver(hand::Error::Vault(status(400, "GET x", "")))),
        ("Vault denies the hand-over", 77, FAILED, Some("`read` on x"), Error::HandOver(hand::Error::Vault(status(403, "GET x", "")))),

        ("no key or request", 70, FAILED, Some("[certificate]"), of_certificate(cert::Cause::Request { reason: x() })),
        ("no file of trust anchors", 78, FAILED, Some("`ca_file` in [certificate]"), of_certificate(cert::Cause::AnchorFile(ca_file()))),
        ("the PKI role is not there", 78, FAILED, Some("`mount` and `ca_path` in [certificate]"), of_certificate(cert::Cause::Vault(status(404, "POST x", "")))),
        ("the PKI role of another certificate is not there", 78, FAILED, Some("`mount` and `ca_path` in [certificates.kafka]"), of_certificate_kafka(cert::Cause::Vault(status(404, "POST x", "")))),
        ("no file of another certificate's trust anchors", 78, FAILED, Some("[certificates.kafka]"), of_certificate_kafka(cert::Cause::AnchorFile(ca_file()))),
        ("another certificate is not the one asked for", 76, FAILED, Some("compare [certificates.kafka]"), of_certificate_kafka(cert::Cause::Check { reason: x() })),
        ("the certificate ends too early", 78, FAILED, Some("live longer"), of_certificate(cert::Cause::Ended)),
        ("the certificate is another one", 76, FAILED, Some("the PKI role"), of_certificate(cert::Cause::Check { reason: x() })),

        ("the path is not there", 78, FAILED, Some("the path in [dependencies.db]"), of_a_dependency(status(404, "GET x", ""))),
        ("the secret was deleted", 78, FAILED, Some("undelete"), Error::Dependency(dep::Error::Deleted { dependency: x(), path: x() })),
        ("a field is null", 78, FAILED, Some("`fields`"), Error::Dependency(dep::Error::Null { dependency: x(), path: x(), field: x() })),
        ("no field at all", 78, FAILED, Some("`fields`"), Error::Dependency(dep::Error::Empty { dependency: x(), path: x() })),
        ("a lease where the manifest has refresh", 78, FAILED, Some("remove `refresh`"), Error::Dependency(dep::Error::Leased { dependency: x(), path: x() })),
        ("the credential ends too early", 78, FAILED, Some("live longer"), Error::Dependency(dep::Error::Ended { dependency: x(), path: x() })),

        ("a field is not there", 78, FAILED, Some("fields and templates"), Error::Files(files::Error::MissingField { dependency: x(), path: x(), field: x(), present: Vec::new() })),
        ("a field cannot be a file", 78, FAILED, Some("fields and templates"), Error::Files(files::Error::FieldName { dependency: x(), field: x(), reason: x() })),
        ("a field cannot be a variable", 78, FAILED, Some("fields and templates"), Error::Files(files::Error::Variable { dependency: x(), field: x(), name: x(), reason: "x" })),
        ("a template cannot be filled in", 78, FAILED, Some("fields and templates"), Error::Files(files::Error::Template { target: x(), reason: x() })),
        ("the Java stores cannot be made", 70, FAILED, Some("[java]"), Error::Files(files::Error::KeyStore { reason: x() })),

        ("the secrets directory is not there", 73, FAILED, Some("it must exist"), Error::SecretsDir(dir::Error::Unusable { path: file(), reason: x() })),
        ("it is on a disk", 73, FAILED, Some("mount one"), Error::SecretsDir(dir::Error::NotTmpfs { path: file() })),
        ("it is read-only", 73, FAILED, Some("mount a tmpfs elsewhere"), Error::SecretsDir(dir::Error::ReadOnly { path: file() })),
        ("another start has it", 73, FAILED, Some("a directory of its own"), Error::SecretsDir(dir::Error::Kept { path: file() })),
        ("a name in it is taken", 73, FAILED, Some("another name"), Error::SecretsDir(dir::Error::Taken { path: file(), name: x() })),
        ("nothing can be made in it", 73, FAILED, Some("it must exist"), unwritable(Lack::Other)),
        ("it has no room at all", 73, FAILED, Some("256 KiB"), unwritable(Lack::Bytes)),
        ("it takes no more names", 73, FAILED, Some("nr_inodes"), unwritable(Lack::Inodes)),
        ("it cannot be opened", 73, FAILED, Some("--ulimit nofile"), unwritable(Lack::Descriptors)),
        ("it is full", 73, FAILED, Some("Its size"), not_written(Lack::Bytes)),
        ("it takes no more files", 73, FAILED, Some("nr_inodes"), not_written(Lack::Inodes)),
        ("a file cannot be opened", 73, FAILED, Some("--ulimit nofile"), not_written(Lack::Descriptors)),
        ("a file may not be so large", 73, FAILED, Some("--ulimit fsize"), not_written(Lack::FileSize)),
        ("a file cannot be written", 73, FAILED, Some("still mounted"), not_written(Lack::Other)),

        ("no command", 127, FAILED, Some("in PATH"), Error::Command(command::Error::NotFound { command: file() })),
        ("no interpreter", 127, FAILED, Some("its interpreter"), Error::Command(command::Error::InterpreterNotFound { command: file(), interpreter: file() })),
        ("the command cannot be run", 126, FAILED, Some("--chmod=0755"), Error::Command(command::Error::NotExecutable { command: file(), reason: x() })),
        ("its environment is too long", 126, FAILED, Some("[dependencies.NAME.files]"), Error::Command(command::Error::TooLong { longest: x(), bytes: 1 })),
        ("an argument holds a NUL byte", 64, FAILED, Some("can hold one"), Error::Command(command::Error::Nul)),

        ("the system refuses something", 71, FAILED, Some("the container's limits"), Error::System(refused())),
        ("it refuses the change of user", 71, FAILED, Some("SETUID"), Error::User(refused())),
        ("a signal ended the start", 143, FAILED, None, Error::Init(init::Error::Interrupted { signal: Signal::SIGTERM })),
        ("the deadline has passed", 69, FAILED, Some("a new wrapping token"), Error::Init(init::Error::Late)),
        ("the keeper was killed", 70, FAILED, Some("memory ran out"), Error::Init(init::Error::KeeperKilled { signal: Signal::SIGKILL })),
        ("the keeper ended", 70, FAILED, Some("the container's limits"), Error::Init(init::Error::KeeperEnded)),
        ("the token's life is over", 75, FAILED, Some("`on_expiry`"), Error::Init(init::Error::Expired)),
        ("the keeper has said why", 77, FAILED, None, Error::Init(init::Error::Told { exit_code: 77 })),
        ("PID 1 says why", 70, FAILED, None, Error::CalledOff),

        ("the command is gone at its exec", 127, FAILED, Some("a moment before"), exec(Errno::ENOENT)),
        ("the command cannot be run after all", 126, FAILED, Some("a moment before"), exec(Errno::EACCES)),
        ("the user cannot be changed", 71, FAILED, Some("SETUID"), Error::Exec(exec::Error::System(refused()))),

        ("a mint's command line is wrong", 64, FAILED, None, Error::Mint(mint::Error::Usage(x()))),
        ("no token to mint with", 66, FAILED, Some("--issuer-token-file"), Error::Mint(mint::Error::Missing)),
        ("two tokens to mint with", 64, FAILED, Some("exactly one"), Error::Mint(mint::Error::Ambiguous { variable: "" })),
        ("its file cannot be used", 66, FAILED, Some("only its owner can read"), Error::Mint(mint::Error::Source { path: file(), reason: x() })),
        ("what was given is no token", 65, FAILED, Some("the token alone"), Error::Mint(mint::Error::Malformed { origin: x(), reason: "" })),
        ("what was minted is lost", 71, FAILED, Some("mint another"), not_printed("a")),
    ]
}

#[test]
fn failure_has_the_code_the_event_and_the_hint_of_its_row() {
    let document = include_str!("../../docs/exit-codes.md");
    let mut codes = BTreeSet::new();
    for (sentence, code, event, named, error) in failures() {
        assert_eq!(error.exit_code(), code, "{sentence}");
        assert_eq!(error.event(), event, "{sentence}");
        assert_names(error.hint(), named, sentence);
        assert!(document.contains(&format!("| `{event}` |")), "{event}");
        codes.insert(code);
    }
    // 128+n is the row of all signals.
    codes.retain(|code| *code < 128);
    let cell = |line: &str| line.strip_prefix("| ")?.split(' ').next()?.parse().ok();
    let documented: BTreeSet<u8> = document.lines().filter_map(cell).collect();
    assert_eq!(codes, documented, "the rows of docs/exit-codes.md");
}

#[track_caller]
fn assert_names(hint: Option<String>, named: Words, sentence: &str) {
    assert_eq!(hint.is_some(), named.is_some(), "{sentence}: {hint:?}");
    let (hint, named) = (hint.unwrap_or_default(), named.unwrap_or_default());
    assert!(hint.contains(named), "{sentence}: {hint}");
}

/// One failure of a request to Vault, and all that follows from it.
struct Answer {
    sentence: &'static str,
    error: vault::Error,
    class: Class,
    /// The exit code of a start or a mint that ends with it.
    code: u8,
    /// The keeper's trouble with this text.
    keeper: fn(String) -> Trouble,
    #[cfg_attr(
        not(feature = "agent"),
        expect(dead_code, reason = "the agent's test alone reads this")
    )]
    agent: AtTheAgent,
    /// Words of the hint of a start, and of that of a mint.
    hints: [Words; 2],
}

/// The agent's view of a failed request.
#[cfg_attr(
    not(feature = "agent"),
    expect(dead_code, reason = "the agent's test alone reads this")
)]
struct AtTheAgent {
    /// Whether Vault is there; none where that is not known.
    is_there: Option<bool>,
    may_pass: bool,
    reason: &'static str,
}

const fn at_the_agent(is_there: Option<bool>, may_pass: bool, reason: &'static str) -> AtTheAgent {
    AtTheAgent {
        is_there,
        may_pass,
        reason,
    }
}

const UNREACHABLE: [Words; 2] = [Some("from this container"), Some("from this host")];
const A_PROXY: [Words; 2] = [Some("not a proxy"), Some("not a proxy")];

#[rustfmt::skip]
fn answers() -> Vec<Answer> {
    use vault::Error as Vault;
    let ending = |_| Trouble::Ending;
    vec![
        Answer { sentence: "no answer in time", error: Vault::Unavailable { request: x(), reason: x(), by_vault: false },
            class: Class::Away, code: 69, keeper: Trouble::Away, agent: at_the_agent(Some(false), true, "vault_away"), hints: UNREACHABLE },
        Answer { sentence: "a failure of Vault's own in the end", error: Vault::Unavailable { request: x(), reason: x(), by_vault: true },
            class: Class::Failed, code: 69, keeper: Trouble::Failed, agent: at_the_agent(Some(true), true, "vault_failed"), hints: UNREACHABLE },
        Answer { sentence: "perhaps done", error: Vault::Unknown { request: x(), reason: x() },
            class: Class::Away, code: 69, keeper: Trouble::Away, agent: at_the_agent(Some(false), true, "vault_away"), hints: [None, None] },
        Answer { sentence: "no safe connection", error: Vault::Tls { server: x(), reason: x() },
            class: Class::Untrusted, code: 76, keeper: Trouble::Away, agent: at_the_agent(Some(false), true, "vault_away"), hints: [Some("`ca_cert`"), Some("VAULT_CACERT")] },
        Answer { sentence: "no answer of the API", error: Vault::Malformed { request: x(), reason: x() },
            class: Class::Foreign, code: 76, keeper: Trouble::Unheard, agent: at_the_agent(Some(false), true, "vault_malformed"), hints: A_PROXY },
        Answer { sentence: "sent elsewhere", error: Vault::Redirect { request: x(), reason: x() },
            class: Class::Redirected, code: 76, keeper: Trouble::Unheard, agent: at_the_agent(Some(false), true, "vault_redirected"), hints: [Some("`standby_hosts`"), Some("the active node")] },
        Answer { sentence: "denied to be read", error: status(403, "GET kv/x", ""),
            class: Class::Denied, code: 77, keeper: Trouble::Denied, agent: at_the_agent(Some(true), false, "vault_denied"), hints: [Some("`read` on kv/x"), Some("`update` on kv/x")] },
        Answer { sentence: "denied to be written", error: status(403, "POST kv/x", ""),
            class: Class::Denied, code: 77, keeper: Trouble::Denied, agent: at_the_agent(Some(true), false, "vault_denied"), hints: [Some("`update` on kv/x"), Some("`update` on kv/x")] },
        Answer { sentence: "refused", error: status(400, "POST x", ""),
            class: Class::Refused, code: 78, keeper: Trouble::Refused, agent: at_the_agent(Some(true), false, "vault_refused"), hints: [Some("compare [dependencies.db]"), Some("--role")] },
        Answer { sentence: "refused with the words of another status", error: status(400, "POST x", "namespace not found"),
            class: Class::Refused, code: 78, keeper: Trouble::Refused, agent: at_the_agent(Some(true), false, "vault_refused"), hints: [Some("compare [dependencies.db]"), Some("--role")] },
        Answer { sentence: "not there", error: status(404, "GET x", "no handler"),
            class: Class::Refused, code: 78, keeper: Trouble::Refused, agent: at_the_agent(Some(true), false, "vault_refused"), hints: [Some("`data/` behind its mount"), Some("--role")] },
        Answer { sentence: "in no namespace", error: status(404, "GET x", "1: namespace not found"),
            class: Class::Refused, code: 78, keeper: Trouble::Refused, agent: at_the_agent(Some(true), false, "vault_refused"), hints: [Some("`namespace` in [vault]"), Some("VAULT_NAMESPACE")] },
        Answer { sentence: "a method that the path does not know", error: status(405, "GET x", ""),
            class: Class::Unexpected, code: 76, keeper: Trouble::Failed, agent: at_the_agent(Some(true), false, "vault_refused"), hints: A_PROXY },
        Answer { sentence: "too large", error: status(413, "GET x", ""),
            class: Class::Unexpected, code: 76, keeper: Trouble::Failed, agent: at_the_agent(Some(true), false, "vault_refused"), hints: A_PROXY },
        Answer { sentence: "a status without a meaning of its own", error: status(418, "GET x", ""),
            class: Class::Unexpected, code: 76, keeper: Trouble::Failed, agent: at_the_agent(Some(true), false, "vault_refused"), hints: A_PROXY },
        Answer { sentence: "nothing sent in clear", error: Vault::InClear { reason: x() },
            class: Class::Barred, code: 78, keeper: Trouble::Unheard, agent: at_the_agent(None, true, "vault_in_clear"), hints: [Some("`allow_http = true` in [vault]"), Some("https")] },
        Answer { sentence: "no connection for want of a descriptor", error: Vault::NoDescriptor(refused()),
            class: Class::Local, code: 71, keeper: Trouble::Unheard, agent: at_the_agent(None, true, "no_descriptor"), hints: [Some("limit of open files"), Some("limit of open files")] },
        Answer { sentence: "called off", error: Vault::Aborted,
            class: Class::CalledOff, code: 70, keeper: ending, agent: at_the_agent(None, false, "called_off"), hints: [None, None] },
    ]
}

/// All variants by their names; another one does not compile before it stands here, and fails before it has a row.
macro_rules! variants {
    ($list:ident, $name:ident, $of:ident: $($variant:ident),*) => {
        const $list: &[&str] = &[$(stringify!($variant)),*];

        fn $name(value: &$of) -> &'static str {
            match value {
                $($of::$variant { .. } => stringify!($variant)),*
            }
        }
    };
}

variants! {
    ERRORS, error_name, VaultError:
    Unavailable, Tls, Status, Redirect, Malformed, Unknown, InClear, NoDescriptor, Aborted
}

variants! {
    CLASSES, class_name, Class:
    Away, Untrusted, Foreign, Redirected, Denied, Refused, Unexpected, Failed, Barred, Local, CalledOff
}

#[test]
fn every_failure_at_vault_has_a_row_and_the_class_of_its_row() {
    let (mut errors, mut classes) = (BTreeSet::new(), BTreeSet::new());
    for Answer {
        sentence,
        error,
        class,
        ..
    } in answers()
    {
        assert_eq!(error.class(), class, "{sentence}");
        errors.insert(error_name(&error));
        classes.insert(class_name(&class));
    }
    assert_eq!(errors, ERRORS.iter().copied().collect());
    assert_eq!(classes, CLASSES.iter().copied().collect());
}

#[test]
fn failure_at_vault_has_one_exit_code_at_every_stage() {
    type Stage = fn(vault::Error) -> Error;
    let stages: [Stage; 4] = [
        |error| Error::HandOver(handover::Error::Vault(error)),
        |error| of_certificate(certificate::Cause::Vault(error)),
        of_a_dependency,
        |error| Error::Mint(mint::Error::Vault(error)),
    ];
    for stage in stages {
        for Answer {
            sentence,
            error,
            code,
            ..
        } in answers()
        {
            let error = stage(error);
            assert_eq!(error.exit_code(), code, "{sentence}: {error:?}");
            assert_eq!(error.event(), FAILED, "{sentence}: {error:?}");
        }
    }
}

#[test]
fn failure_at_vault_is_the_keepers_trouble_of_its_row() {
    for Answer {
        sentence,
        error,
        keeper,
        ..
    } in answers()
    {
        let text = error.to_string();
        assert_eq!(Trouble::from(error), keeper(text), "{sentence}");
    }
}

#[cfg(feature = "agent")]
#[test]
fn failure_at_vault_means_to_the_agent_what_its_row_says() {
    use crate::agent::trouble::{Presence, Trouble, presence};
    for Answer {
        sentence,
        error,
        agent,
        class,
        ..
    } in answers()
    {
        let expected = match agent.is_there {
            Some(true) => Presence::There,
            Some(false) => Presence::Away,
            None => Presence::NotAsked,
        };
        assert_eq!(presence(&error), expected, "{sentence}");
        let trouble = Trouble::Vault(error);
        assert_eq!(
            trouble.is_outage(),
            agent.is_there == Some(false),
            "{sentence}"
        );
        assert_eq!(trouble.may_pass(), agent.may_pass, "{sentence}");
        assert_eq!(trouble.is_denial(), class == Class::Denied, "{sentence}");
        assert_eq!(trouble.reason(), agent.reason, "{sentence}");
    }
}

#[test]
fn hint_of_a_start_names_what_the_manifest_may_have_wrong() {
    for Answer {
        sentence,
        error,
        hints: [named, _],
        ..
    } in answers()
    {
        assert_names(of_a_dependency(error).hint(), named, sentence);
    }
}

#[test]
fn hint_of_a_mint_names_neither_a_manifest_nor_a_container() {
    for Answer {
        sentence,
        error,
        hints: [_, named],
        ..
    } in answers()
    {
        let hint = Error::Mint(mint::Error::Vault(error)).hint();
        for other in [" in [", "container"] {
            let is_there = hint.as_ref().is_some_and(|hint| hint.contains(other));
            assert!(!is_there, "{sentence}: {hint:?}");
        }
        assert_names(hint, named, sentence);
    }
}

#[test]
fn token_that_may_have_been_taken_is_named_by_its_accessor() {
    for (sentence, error, accessor) in [
        ("taken, perhaps", not_valid(Some("a")), Some("a")),
        (
            "taken, and its accessor was not handed in",
            not_valid(None),
            None,
        ),
        ("unwrapped, perhaps", unknown(Some("b")), Some("b")),
        ("unwrapped, without an accessor", unknown(None), None),
        ("minted, and lost", not_printed("c"), Some("c")),
        ("another token", not_promised(), None),
        ("no start", Error::CalledOff, None),
    ] {
        assert_eq!(error.wrapped_accessor(), accessor, "{sentence}");
    }
}

// f42
#[test]
fn hint_names_the_accessor_of_a_token_that_was_taken() {
    for error in [not_valid, unknown] {
        let with = error(Some("accessor-1")).hint().expect("a hint");
        assert!(with.contains("by its accessor accessor-1"), "{with}");
        let without = error(None).hint().expect("a hint");
        assert!(
            without.contains("the wrapped_accessor that the minting side holds"),
            "{without}"
        );
    }
    let hint = not_valid(None).hint().expect("a hint");
    assert!(hint.contains("if this container was restarted"), "{hint}");
}

#[test]
fn another_process_says_why_where_it_ended_the_start() {
    for (sentence, error, is_told) in [
        (
            "the keeper has",
            Error::Init(init::Error::Told { exit_code: 77 }),
            true,
        ),
        ("PID 1 does", Error::CalledOff, true),
        (
            "the keeper could not",
            Error::Init(init::Error::KeeperEnded),
            false,
        ),
        ("this process does", Error::Usage(x()), false),
    ] {
        assert_eq!(error.is_told(), is_told, "{sentence}");
    }
}

#[test]
fn text_of_a_failure_is_that_of_its_stage() {
    for (error, words) in [
        (
            Error::Usage("there is no command to become".to_owned()),
            "there is no command to become",
        ),
        (Error::Trust(ca_file()), "the CA file /x cannot be used: x"),
        (
            of_a_dependency(status(403, "GET kv/x", "permission denied")),
            "dependency db: Vault answered 403 to GET kv/x: permission denied",
        ),
        (
            Error::Command(command::Error::NotFound { command: file() }),
            "the command /x is not there",
        ),
        (
            exec(Errno::EACCES),
            "cannot exec the command: Permission denied",
        ),
        (Error::CalledOff, "called off"),
    ] {
        assert_eq!(error.to_string(), words);
    }
}
