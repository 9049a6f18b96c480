use nix::sys::stat::fstat;
use nix::unistd::Uid;

use super::opening::make_private;
use super::*;
use crate::files::File;
use crate::secret::Secret;

fn scratch() -> (PathBuf, SecretsDir) {
    let path = make_private(Path::new("/dev/shm"), None).expect("a directory");
    let mut directory = SecretsDir::open(&path, true, None).expect("usable");
    assert!(directory.claim().expect("it can be locked"));
    (path, directory)
}

fn file(path: &str, text: &str) -> File {
    File {
        path: path.to_owned(),
        mode: 0o400,
        shared: None,
        contents: Secret::new(text.as_bytes().to_vec()),
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("readable")
}

#[test]
fn new_generation_replaces_the_old_one_whole() {
    let (path, mut directory) = scratch();
    let names = ["a".to_owned(), "db".to_owned()];
    let mut generation = directory.prepare(&names).expect("free");
    for (round, kept) in [("1", 1), ("2", 2), ("3", 2), ("4", 2)] {
        let files = [file("a", round), file("db/user", round)];
        directory.publish(generation, &files).expect("written");
        assert_eq!(read(&path.join("a")), round);
        assert_eq!(read(&path.join("db/user")), round);
        let names = directory.names();
        let generations = names.iter().filter(|name| name.starts_with(GENERATION));
        assert_eq!(generations.count(), kept);
        generation = directory.next().expect("writable");
    }
    directory.withdraw();
    assert_eq!(directory.names(), Vec::<String>::new());
    std::fs::remove_dir(path).expect("empty");
}

// f43
#[test]
fn foreign_entry_is_left_alone() {
    let (path, mut directory) = scratch();
    for plant in ["file", "link", "directory"] {
        let name = format!("taken-{plant}");
        match plant {
            "file" => drop(std::fs::File::create(path.join(&name)).expect("made")),
            "link" => std::os::unix::fs::symlink("/etc/passwd", path.join(&name)).expect("made"),
            _ => std::fs::create_dir(path.join(&name)).expect("made"),
        }
        assert!(
            matches!(
                directory.prepare(std::slice::from_ref(&name)),
                Err(Error::Taken { .. })
            ),
            "{plant}"
        );
    }
    let generation = directory.prepare(&["mine".to_owned()]).expect("free");
    let files = [file("mine", "x")];
    directory.publish(generation, &files).expect("written");
    directory.withdraw();
    let mut left = directory.names();
    left.sort();
    assert_eq!(left, ["taken-directory", "taken-file", "taken-link"]);
    std::fs::remove_dir_all(path).expect("removed");
}

// t9
#[test]
fn swap_is_warned_of_unless_the_mount_forbids_it() {
    let (path, directory) = scratch();
    let swaps = "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n";
    let mountinfo = |options: &str| {
        format!(
            "1 0 0:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:2 / {} rw - tmpfs tmpfs {options}\n",
            path.display()
        )
    };
    assert!(directory.swap_warning(&mountinfo("rw"), swaps).is_some());
    assert!(
        directory
            .swap_warning(&mountinfo("rw,noswap"), swaps)
            .is_none()
    );
    assert!(
        directory
            .swap_warning(&mountinfo("rw"), "Filename\n")
            .is_none()
    );
    std::fs::remove_dir_all(&path).expect("removed");
}

#[test]
fn links_that_other_users_cannot_follow_are_told() {
    use crate::config::layout::{Entry, Shared};
    use std::os::unix::fs::PermissionsExt;
    let (path, directory) = scratch();
    let file = |mode: u32, is_shared: bool| Entry {
        name: format!("{mode:o}"),
        mode,
        shared: is_shared.then_some(Shared { group: None }),
        source: (),
    };
    let files = [file(0o400, false), file(0o444, false), file(0o440, true)];
    for (mode, owner, protected, is_told) in [
        (0o1777, 1, "1\n", true),
        (0o1777, 1, "0\n", false),
        (0o755, 1, "1\n", false),
        (0o1755, 1, "1\n", false),
        (0o1777, 0, "1\n", false),
    ] {
        std::os::unix::fs::chown(&path, Some(owner), None).expect("given away");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
        let told = directory.unreachable(&files, protected);
        let names = told.as_ref().map(|(names, _)| names.as_str());
        let expected = is_told.then_some("440");
        assert_eq!(names, expected, "{mode:o} {owner} {protected} {told:?}");
    }
    std::fs::remove_dir_all(path).expect("removed");
}

// t11
#[test]
fn directory_that_others_can_write_is_closed_or_refused() {
    use std::os::unix::fs::PermissionsExt;
    let (path, _) = scratch();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).expect("set");
    let directory = SecretsDir::open(&path, true, None).expect("closed");
    let mode = fstat(&directory.directory).expect("open").st_mode;
    assert_eq!(mode & 0o777, 0o755);
    std::fs::remove_dir_all(path).expect("removed");
}

#[test]
fn second_claim_fails_until_the_first_one_withdraws() {
    let (path, mut first) = scratch();
    let mut second = SecretsDir::open(&path, true, None).expect("usable");
    for _ in 0..2 {
        assert!(!second.claim().expect("it can be looked at"));
        assert!(is_kept(&path));
    }
    first.withdraw();
    assert!(!is_kept(&path));
    assert!(second.claim().expect("free"));
    second.withdraw();
    std::fs::remove_dir(path).expect("empty");
}

#[test]
fn lock_of_a_killed_start_can_be_claimed() {
    let (path, mut first) = scratch();
    first.let_go();
    assert!(!is_kept(&path));
    let mut second = SecretsDir::open(&path, true, None).expect("usable");
    assert!(second.claim().expect("free"));
    assert!(matches!(first.hold(), Err(Error::Kept { .. })));
    second.withdraw();
    std::fs::remove_dir(path).expect("empty");
}

#[test]
fn withdrawal_leaves_what_another_start_has_published() {
    let (path, mut first) = scratch();
    let files = [file("a", "first")];
    let generation = first.prepare(&["a".to_owned()]).expect("free");
    first.publish(generation, &files).expect("written");
    first.let_go();
    let mut second = SecretsDir::open(&path, true, None).expect("usable");
    assert!(second.claim().expect("free"));
    // One that fails before it publishes.
    drop(second.prepare(&["a".to_owned()]).expect("free"));
    second.withdraw();
    assert_eq!(read(&path.join("a")), "first");
    assert_eq!(first.names().len(), 4, "{:?}", first.names());
    // And one that publishes.
    assert!(second.claim().expect("free"));
    let generation = second.prepare(&["a".to_owned()]).expect("free");
    second.take_over(&generation).expect("it is held");
    let files = [file("a", "second")];
    second.publish(generation, &files).expect("written");
    let before = second.names();
    first.withdraw();
    assert_eq!(second.names(), before);
    assert_eq!(read(&path.join("a")), "second");
    second.withdraw();
    std::fs::remove_dir(path).expect("empty");
}

#[test]
fn publication_makes_missing_names_and_the_lock_again() {
    let (path, mut directory) = scratch();
    let names = ["a".to_owned(), "db".to_owned()];
    let generation = directory.prepare(&names).expect("free");
    let files = [file("a", "1"), file("db/user", "1")];
    let shown = directory.publish(generation, &files).expect("written");
    assert!(shown.restored.is_empty(), "the first are no news");
    for name in ["a", "db", "status.json"] {
        assert!(path.join(name).is_symlink(), "{name}");
    }
    for name in directory.names() {
        if !name.starts_with(GENERATION) {
            std::fs::remove_file(path.join(name)).expect("ours");
        }
    }
    std::os::unix::fs::symlink("/etc/passwd", path.join("db")).expect("ours");
    let generation = directory.next().expect("writable");
    let files = [file("a", "2"), file("db/user", "2")];
    let shown = directory.publish(generation, &files).expect("written");
    assert_eq!(shown.restored, ["a", "status.json", KEEPER]);
    assert_eq!(shown.taken, ["db"]);
    assert_eq!(read(&path.join("a")), "2");
    assert!(is_kept(&path));
    directory.withdraw();
    assert_eq!(directory.names(), ["db"]);
    std::fs::remove_dir_all(path).expect("removed");
}

#[test]
fn publication_into_anothers_directory_fails() {
    let (path, mut first) = scratch();
    std::fs::remove_file(path.join(KEEPER)).expect("ours");
    let mut second = SecretsDir::open(&path, true, None).expect("usable");
    assert!(second.claim().expect("free"));
    let before = second.names();
    let generation = first.next().expect("writable");
    let published = first.publish(generation, &[file("a", "1")]);
    let text = published.expect_err("it is another's").to_string();
    assert!(text.contains("another anteroom"), "{text}");
    assert!(first.write_status(Vec::new()).is_err());
    assert_eq!(second.names(), before);
    second.withdraw();
    std::fs::remove_dir(path).expect("empty");
}

#[test]
fn socket_in_the_locks_place_is_no_other_anteroom() {
    let (path, mut first) = scratch();
    first.withdraw();
    let socket = std::os::unix::net::UnixListener::bind(path.join(KEEPER)).expect("made");
    let mut second = SecretsDir::open(&path, true, None).expect("usable");
    let error = second.claim().expect_err("no start makes a socket");
    assert!(matches!(error, Error::Taken { .. }), "{error}");
    drop(socket);
    std::fs::remove_dir_all(path).expect("removed");
}

#[test]
fn lock_that_cannot_be_removed_is_no_other_anteroom() {
    use std::os::unix::fs::PermissionsExt;
    let (path, mut first) = scratch();
    first.let_go();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
    let mut second = SecretsDir::open(&path, true, None).expect("usable");
    let user = Uid::from_raw(1000);
    let claimed = std::thread::scope(|scope| {
        let claim = || {
            // For this thread alone (setresuid(2)).
            nix::unistd::setfsuid(user);
            second.claim()
        };
        scope.spawn(claim).join().expect("it ends")
    });
    let error = claimed.expect_err("the directory is root's").to_string();
    assert!(error.contains("cannot write it"), "{error}");
    std::fs::remove_dir_all(path).expect("removed");
}
