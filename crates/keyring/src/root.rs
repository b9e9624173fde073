//! The council root: the age identities to which every dataset's identity is sealed.

use age::secrecy::ExposeSecret;
use age::x25519;
use guildhall_keys::{OpenError, Recipient, RecipientError, open_with};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The largest identity file that is read.
const MAX_FILE: u64 = 64 << 10;

/// Why there is no root identity, in the order the checks run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// The file cannot be opened, read or written.
    #[error("cannot use the root identity file `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Not an ordinary file.
    #[error("the root identity `{}` is not an ordinary file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Others can read or write it.
    #[error("the root identity file `{}` has mode {mode:04o}: others than its owner may use it", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Larger than any identity file.
    #[error("the root identity file `{}` is larger than {MAX_FILE} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A line that is no age identity.
    #[error("line {line} is not an age X25519 identity")]
    NotAnIdentity {
        /// The line, from 1. Its text is not repeated.
        line: usize,
    },
    /// A line that is no age recipient.
    #[error("line {line} is not an age X25519 recipient")]
    NotARecipient {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: RecipientError,
    },
    /// No identity or recipient in it.
    #[error("there is no age identity or recipient in it")]
    Empty,
}

impl RootError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::TooOpen { .. } => Some("`chmod 600` it, and ask who read it"),
            Self::NotAnIdentity { .. } | Self::Empty => Some(
                "an identity file has one `AGE-SECRET-KEY-1...` per line, as `age-keygen` writes it",
            ),
            _ => None,
        }
    }
}

/// The age identities of a council's root. The first seals; all open, so that a root can be
/// replaced while older seals last.
pub struct RootIdentity(Vec<x25519::Identity>);

impl RootIdentity {
    /// A fresh root, in memory only.
    #[must_use]
    pub fn generate() -> Self {
        Self(vec![x25519::Identity::generate()])
    }

    /// A root from the text of an age identity file.
    pub fn parse(text: &str) -> Result<Self, RootError> {
        let identities = entries(text)
            .map(|(line, entry)| entry.parse().map_err(|_| RootError::NotAnIdentity { line }))
            .collect::<Result<Vec<_>, _>>()?;
        if identities.is_empty() {
            Err(RootError::Empty)
        } else {
            Ok(Self(identities))
        }
    }

    /// Reads an age identity file, which nobody but its owner may read or write.
    pub fn load(path: &Path) -> Result<Self, RootError> {
        let failed = |source| RootError::File {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        // Asked of the open file, so that it cannot be changed for another in between.
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(RootError::NotAFile {
                path: path.to_owned(),
            });
        }
        private(path, &metadata)?;
        if metadata.len() > MAX_FILE {
            return Err(RootError::TooLarge {
                path: path.to_owned(),
            });
        }
        let room = usize::try_from(MAX_FILE).unwrap_or(usize::MAX) + 64;
        let mut text = Zeroizing::new(String::with_capacity(room));
        file.take(MAX_FILE)
            .read_to_string(&mut text)
            .map_err(failed)?;
        Self::parse(&text)
    }

    /// Writes a new age identity file with mode 0600; a file that is there already is left alone.
    pub fn create(&self, path: &Path) -> Result<(), RootError> {
        let failed = |source| RootError::File {
            path: path.to_owned(),
            source,
        };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(failed)?;
        for identity in &self.0 {
            let secret = identity.to_string();
            writeln!(file, "# public key: {}", Recipient::of(identity)).map_err(failed)?;
            file.write_all(secret.expose_secret().as_bytes())
                .map_err(failed)?;
            file.write_all(b"\n").map_err(failed)?;
        }
        file.sync_all().map_err(failed)?;
        let folder = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        File::open(folder)
            .and_then(|f| f.sync_all())
            .map_err(failed)
    }

    /// To whom dataset identities are sealed.
    #[must_use]
    pub fn recipients(&self) -> RootRecipients {
        RootRecipients(self.0.iter().map(Recipient::of).collect())
    }

    /// Opens what was sealed to this root: the secrets of the authority itself.
    pub fn open(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        open_with(
            self.identities().iter().map(|i| i as &dyn age::Identity),
            sealed,
        )
    }

    pub(crate) fn identities(&self) -> &[x25519::Identity] {
        &self.0
    }
}

impl fmt::Debug for RootIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RootIdentity")
            .field(&self.recipients().0)
            .finish()
    }
}

#[cfg(unix)]
fn private(path: &Path, metadata: &std::fs::Metadata) -> Result<(), RootError> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777;
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(RootError::TooOpen {
            path: path.to_owned(),
            mode,
        })
    }
}

#[cfg(not(unix))]
fn private(_: &Path, _: &std::fs::Metadata) -> Result<(), RootError> {
    Ok(())
}

/// The public halves of a root; there is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootRecipients(Vec<Recipient>);

impl RootRecipients {
    /// From a text with one `age1...` per line; blank lines and `#` comments are passed over.
    pub fn parse(text: &str) -> Result<Self, RootError> {
        let recipients = entries(text)
            .map(|(line, e)| {
                e.parse()
                    .map_err(|source| RootError::NotARecipient { line, source })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if recipients.is_empty() {
            Err(RootError::Empty)
        } else {
            Ok(Self(recipients))
        }
    }

    /// The recipients, at least one.
    #[must_use]
    pub fn as_slice(&self) -> &[Recipient] {
        &self.0
    }
}

/// One `age1...` per line.
impl fmt::Display for RootRecipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|r| writeln!(f, "{r}"))
    }
}

fn entries(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .map(str::trim)
        .enumerate()
        .map(|(i, line)| (i + 1, line))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str =
        "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
    const PUBLIC: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";

    #[test]
    fn an_age_keygen_file_is_a_root() {
        let text = format!("# created: then\n# public key: {PUBLIC}\n\n{SECRET}\n");
        let root = RootIdentity::parse(&text).unwrap();
        assert_eq!(root.recipients().to_string(), format!("{PUBLIC}\n"));
    }

    #[test]
    fn a_file_reads_back_with_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.age");
        let root = RootIdentity::generate();
        root.create(&path).unwrap();
        assert_eq!(
            RootIdentity::load(&path).unwrap().recipients(),
            root.recipients()
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(
                std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_use_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.age");
        RootIdentity::generate().create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let error = RootIdentity::load(&path).unwrap_err();
            assert!(
                matches!(error, RootError::TooOpen { mode: m, .. } if m == mode),
                "{error}"
            );
        }
        for mode in [0o600, 0o400] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            RootIdentity::load(&path).unwrap();
        }
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.age");
        let first = RootIdentity::generate();
        first.create(&path).unwrap();
        assert!(matches!(
            RootIdentity::generate().create(&path),
            Err(RootError::File { .. })
        ));
        assert_eq!(
            RootIdentity::load(&path).unwrap().recipients(),
            first.recipients()
        );
    }

    #[test]
    fn a_folder_is_no_root() {
        let folder = tempfile::tempdir().unwrap();
        let error = RootIdentity::load(folder.path()).unwrap_err();
        assert!(matches!(error, RootError::NotAFile { .. }), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_huge_file_is_refused_unread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.age");
        RootIdentity::generate().create(&path).unwrap();
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(MAX_FILE + 1)
            .unwrap();
        assert!(matches!(
            RootIdentity::load(&path),
            Err(RootError::TooLarge { .. })
        ));
    }

    #[test]
    fn an_error_names_the_line_and_not_its_text() {
        let text = format!("# mine\n{SECRET}\n{}\n", SECRET.replace("GQ97", "GQ79"));
        let error = RootIdentity::parse(&text).unwrap_err();
        assert_eq!(error.to_string(), "line 3 is not an age X25519 identity");
        assert!(!format!("{error:?}").contains("SECRET"));
    }

    #[test]
    fn nothing_is_no_root() {
        for text in ["", "\n\n", "# only a comment\n"] {
            assert!(matches!(RootIdentity::parse(text), Err(RootError::Empty)));
            assert!(matches!(RootRecipients::parse(text), Err(RootError::Empty)));
        }
    }

    #[test]
    fn recipients_read_back() {
        let both = format!(
            "{PUBLIC}\n# the other\n{}",
            RootIdentity::generate().recipients()
        );
        let recipients = RootRecipients::parse(&both).unwrap();
        assert_eq!(recipients.as_slice().len(), 2);
        assert_eq!(
            RootRecipients::parse(&recipients.to_string()).unwrap(),
            recipients
        );
    }

    #[test]
    fn debug_prints_the_public_half_alone() {
        let root = RootIdentity::parse(SECRET).unwrap();
        assert_eq!(
            format!("{root:?}"),
            format!("RootIdentity([Recipient({PUBLIC})])")
        );
    }
}
