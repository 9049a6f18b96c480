//! The application: found, and found fit to run, before any token is touched.

use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};

/// The longest chain of interpreters that the kernel follows (`exec_binprm` in Linux).
const INTERPRETERS_MAX: u32 = 5;
/// The longest single argument or variable (`MAX_ARG_STRLEN`, execve(2)).
const STRING_MAX: usize = 128 << 10;
/// The directories that are searched for a command without PATH, as in execvp(3).
const PATH_DEFAULT: &str = "/bin:/usr/bin";

/// Every reason why the command cannot become the application.
#[derive(Debug)]
pub enum Error {
    /// The command was not found.
    NotFound {
        /// The command as typed.
        command: PathBuf,
    },
    /// The command's interpreter or loader was not found.
    InterpreterNotFound {
        /// The command as resolved.
        command: PathBuf,
        /// The interpreter that the first line or the ELF header names.
        interpreter: PathBuf,
    },
    /// The command was found and cannot be run.
    NotExecutable {
        /// The command as resolved.
        command: PathBuf,
        /// The obstacle, such as a missing right.
        reason: String,
    },
    /// The variables of `[environment]` are longer than any process may have.
    TooLong {
        /// The longest argument or variable.
        longest: String,
        /// The size of the longest one in bytes.
        bytes: usize,
    },
    /// An argument or variable holds a NUL byte.
    Nul,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotFound { command } => {
                write!(f, "the command {} is not there", command.display())
            }
            Error::InterpreterNotFound {
                command,
                interpreter,
            } => {
                write!(
                    f,
                    "{} needs {}, which is not there",
                    command.display(),
                    interpreter.display()
                )
            }
            Error::NotExecutable { command, reason } => {
                write!(
                    f,
                    "the command {} cannot be run: {reason}",
                    command.display()
                )
            }
            Error::TooLong { longest, bytes } => write!(
                f,
                "the variables of [environment] are longer than any process may have, `{longest}` with {bytes} bytes above all"
            ),
            Error::Nul => f.write_str("an argument of the command holds a NUL byte"),
        }
    }
}

impl std::error::Error for Error {}

/// A command that can be run.
#[derive(Debug)]
pub(crate) struct Command {
    /// The file, resolved once: a directory that is added early in PATH later does not matter.
    pub path: PathBuf,
    /// The arguments, of which the first is the name as typed.
    pub arguments: Vec<CString>,
}

impl Command {
    /// Finds the command as a shell does, and looks at it as the kernel will.
    pub(crate) fn resolve(
        command: &[OsString],
        search_path: Option<&OsStr>,
    ) -> Result<Command, Error> {
        let name = command.first().map(OsString::as_os_str).unwrap_or_default();
        let path = find(name, search_path.unwrap_or(OsStr::new(PATH_DEFAULT)))?;
        let arguments = command
            .iter()
            .map(|argument| CString::new(argument.clone().into_vec()).map_err(|_| Error::Nul))
            .collect::<Result<_, _>>()?;
        let command = Command { path, arguments };
        command.check()?;
        Ok(command)
    }

    /// Checks that the file is still there, and still fit to run.
    pub(crate) fn check(&self) -> Result<(), Error> {
        executable(&self.path).map_err(|errno| match errno {
            Errno::ENOENT | Errno::ENOTDIR => Error::NotFound {
                command: self.path.clone(),
            },
            errno => not_executable(&self.path, errno.desc()),
        })?;
        check_format(&self.path, &self.path, 0)
    }

    /// Checks that the arguments and this environment fit into an exec, given the limit of the stack in bytes.
    pub(crate) fn check_size(&self, environment: &[CString], stack: u64) -> Result<(), Error> {
        let too_long = |reason: String| Err(not_executable(&self.path, &reason));
        let strings = || self.arguments.iter().chain(environment);
        let (longest, bytes) = self.longest(environment);
        if bytes > STRING_MAX {
            return too_long(format!(
                "{longest} has {bytes} bytes, and the kernel takes {STRING_MAX}"
            ));
        }
        let pointers = size_of::<usize>() * (self.arguments.len() + environment.len() + 2);
        let total = strings()
            .map(|string| string.as_bytes_with_nul().len())
            .sum::<usize>()
            + pointers;
        // A quarter of the stack, at most three quarters of 8 MiB and at least 32 pages (execve(2)).
        let limit = (stack / 4).clamp(128 << 10, 6 << 20);
        if total as u64 + 4096 > limit {
            return too_long(format!(
                "arguments and environment have {total} bytes, and the kernel takes {limit}; the longest is {longest} with {bytes}"
            ));
        }
        Ok(())
    }

    /// Names the longest argument or variable, and counts its bytes. No value is shown: it may be a secret.
    fn longest(&self, environment: &[CString]) -> (String, usize) {
        let size = |string: &CString| string.as_bytes_with_nul().len();
        let arguments = self.arguments.iter().enumerate();
        let arguments =
            arguments.map(|(index, argument)| (format!("argument {index}"), size(argument)));
        let variables = environment.iter().map(|variable| {
            let name = variable.as_bytes().split(|byte| *byte == b'=').next();
            let name = String::from_utf8_lossy(name.unwrap_or_default());
            (format!("the variable `{name}`"), size(variable))
        });
        let all = arguments.chain(variables);
        all.max_by_key(|(_, bytes)| *bytes).unwrap_or_default()
    }
}

fn not_executable(command: &Path, reason: &str) -> Error {
    Error::NotExecutable {
        command: command.to_owned(),
        reason: reason.to_owned(),
    }
}

fn find(name: &OsStr, search_path: &OsStr) -> Result<PathBuf, Error> {
    if name.as_bytes().contains(&b'/') || name.is_empty() {
        return Ok(name.into());
    }
    let mut denied = None;
    for directory in search_path.as_bytes().split(|byte| *byte == b':') {
        let directory = if directory.is_empty() {
            OsStr::new(".")
        } else {
            OsStr::from_bytes(directory)
        };
        let path = Path::new(directory).join(name);
        match executable(&path) {
            Ok(()) => return Ok(path),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno) => denied = denied.or(Some(not_executable(&path, errno.desc()))),
        }
    }
    Err(denied.unwrap_or_else(|| Error::NotFound {
        command: name.into(),
    }))
}

/// Checks the right to execute a file by the effective ids, as execve does.
fn executable(path: &Path) -> Result<(), Errno> {
    let stat = nix::sys::stat::stat(path)?;
    if stat.st_mode & nix::libc::S_IFMT != nix::libc::S_IFREG {
        return Err(if stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR {
            Errno::EISDIR
        } else {
            Errno::EACCES
        });
    }
    match faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS) {
        // Of a question for X_OK neither is an answer (access(2)): a seccomp filter does not know the call. Without any
        // bit for it the exec fails for every user; else the exec itself decides.
        Err(Errno::EPERM | Errno::ENOSYS) if stat.st_mode & 0o111 == 0 => Err(Errno::EACCES),
        Err(Errno::EPERM | Errno::ENOSYS) => Ok(()),
        answer => answer,
    }
}

fn check_format(command: &Path, file: &Path, depth: u32) -> Result<(), Error> {
    // A user who may run a file need not be allowed to read it.
    let Ok(mut opened) = File::open(file) else {
        return Ok(());
    };
    let mut head = [0; 256];
    let mut length = 0;
    while length < head.len() {
        match opened.read(&mut head[length..]) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(_) => return Ok(()),
        }
    }
    let head = &head[..length];
    let interpreter = match head {
        [b'#', b'!', line @ ..] => Some(
            shebang(line)
                .ok_or_else(|| not_executable(command, "its first line names no interpreter"))?,
        ),
        [0x7f, b'E', b'L', b'F', ..] => {
            elf_interpreter(&opened, head).map_err(|reason| not_executable(command, reason))?
        }
        _ => {
            return Err(not_executable(
                command,
                "it is neither an ELF program nor a script with a `#!` line",
            ));
        }
    };
    let Some(interpreter) = interpreter else {
        return Ok(());
    };
    match executable(&interpreter) {
        Ok(()) if head.starts_with(b"#!") && depth < INTERPRETERS_MAX => {
            check_format(command, &interpreter, depth + 1)
        }
        Ok(()) if head.starts_with(b"#!") => Err(not_executable(
            command,
            "too many scripts are one another's interpreters",
        )),
        Ok(()) => Ok(()),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Err(Error::InterpreterNotFound {
            command: command.to_owned(),
            interpreter,
        }),
        Err(errno) => Err(not_executable(
            command,
            &format!(
                "its interpreter {}: {}",
                interpreter.display(),
                errno.desc()
            ),
        )),
    }
}

/// Reads the interpreter from the rest of a `#!` line.
fn shebang(line: &[u8]) -> Option<PathBuf> {
    let line = line.split(|byte| *byte == b'\n').next()?;
    let word = line
        .trim_ascii()
        .split(|byte| *byte == b' ' || *byte == b'\t')
        .next()?;
    (!word.is_empty()).then(|| OsStr::from_bytes(word).into())
}

/// The values of `e_machine` (elf(5)) of this build, and of 32-bit programs that its kernel may run too.
#[cfg(target_arch = "x86_64")]
const MACHINES: [u16; 2] = [62, 3];
#[cfg(target_arch = "aarch64")]
const MACHINES: [u16; 2] = [183, 40];

/// Reads `PT_INTERP` of a 64-bit ELF program; a 32-bit one is left to the kernel.
fn elf_interpreter(file: &File, head: &[u8]) -> Result<Option<PathBuf>, &'static str> {
    const CLASS_64: u8 = 2;
    const EXECUTABLE_OR_SHARED: [u64; 2] = [2, 3];
    const PT_INTERP: u32 = 3;
    let number = |bytes: &[u8], at: usize, length: usize| {
        bytes.get(at..at + length).map(|bytes| {
            bytes
                .iter()
                .rev()
                .fold(0, |number, byte| number << 8 | u64::from(*byte))
        })
    };
    let cut = "its ELF header is cut off";
    let (kind, machine) = (
        number(head, 16, 2).ok_or(cut)?,
        number(head, 18, 2).ok_or(cut)?,
    );
    let is_64 = head.get(4) == Some(&CLASS_64);
    let known = MACHINES.map(u64::from);
    if head.get(5) != Some(&1) || machine != known[0] && (is_64 || machine != known[1]) {
        return Err("it is built for another kind of machine");
    }
    if !EXECUTABLE_OR_SHARED.contains(&kind) {
        return Err("it is an ELF file, but not a program");
    }
    if !is_64 {
        return if head.len() < 52 { Err(cut) } else { Ok(None) };
    }
    let offset = number(head, 32, 8).ok_or(cut)?;
    let size = number(head, 54, 2).ok_or(cut)?;
    let count = number(head, 56, 2).ok_or(cut)?;
    for index in 0..count.min(64) {
        let mut header = [0; 56];
        let at = offset.checked_add(index * size).ok_or(cut)?;
        match file.read_exact_at(&mut header, at) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(cut),
            // What cannot be read here the kernel may read all the same.
            Err(_) => return Ok(None),
        }
        if number(&header, 0, 4) != Some(PT_INTERP.into()) {
            continue;
        }
        let at = number(&header, 8, 8).ok_or(cut)?;
        let length = number(&header, 32, 8).ok_or(cut)?.min(4096) as usize;
        let mut path = vec![0; length];
        file.read_exact_at(&mut path, at).map_err(|_| cut)?;
        let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
        return Ok(Some(OsStr::from_bytes(path).into()));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_line_of_a_script_names_its_interpreter() {
        assert_eq!(shebang(b" /bin/sh -e\nrest"), Some("/bin/sh".into()));
        assert_eq!(
            shebang(b"/usr/bin/env\tpython"),
            Some("/usr/bin/env".into())
        );
        assert_eq!(shebang(b"  \n"), None);
    }

    // b55
    #[test]
    fn arguments_beyond_the_limit_are_found_before_the_exec() {
        let command = Command {
            path: "/app".into(),
            arguments: vec![CString::new("app").expect("no NUL")],
        };
        let variable = |length: usize| CString::new(vec![b'x'; length]).expect("no NUL");
        let stack = 8 << 20;
        assert!(command.check_size(&[variable(1000)], stack).is_ok());
        assert!(command.check_size(&[variable(STRING_MAX)], stack).is_err());
        let mut large = b"LARGE=canary".to_vec();
        large.resize(STRING_MAX, b'x');
        let large = CString::new(large).expect("no NUL");
        let error = command.check_size(&[variable(1000), large], stack);
        let text = error.expect_err("too long").to_string();
        assert!(
            text.contains("the variable `LARGE` has 131073 bytes"),
            "{text}"
        );
        assert!(!text.contains("canary"), "{text}");
        assert!(
            command
                .check_size(&vec![variable(100 << 10); 30], stack)
                .is_err()
        );
    }
}
