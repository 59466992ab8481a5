//! Reading and replacing a file of the user's without ever leaving half of one.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bstr::{BStr, BString};

/// A file of the user's, as it was read.
#[derive(Debug)]
pub(crate) struct RcFile {
    /// Where it really lies, behind symbolic links.
    target: PathBuf,
    /// `None`: it is not there.
    pub(crate) text: Option<BString>,
}

impl RcFile {
    /// Reads it; a missing file is fine, a link that leads nowhere is not.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn read(path: &Path) -> io::Result<RcFile> {
        match fs::canonicalize(path) {
            Ok(target) => {
                refuse_what_is_no_file(&target)?;
                Ok(RcFile {
                    text: Some(fs::read(&target)?.into()),
                    target,
                })
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                if let Ok(link) = fs::read_link(path) {
                    let message =
                        format!("it is a link to `{}`, which is not there", link.display());
                    return Err(io::Error::other(message));
                }
                Ok(RcFile {
                    target: path.to_owned(),
                    text: None,
                })
            }
            Err(err) => Err(err),
        }
    }

    /// Replaces it in one step: whoever reads it sees the old text or the new one. A link stays a
    /// link; mode and owner stay. `None` removes it.
    ///
    /// # Errors
    /// Whatever the file system says, or that somebody else has changed it since it was read.
    pub(crate) fn replace(&self, text: Option<&BStr>) -> io::Result<()> {
        self.check_unchanged()?;
        let dir = self.target.parent().unwrap_or(Path::new("/"));
        let Some(text) = text else {
            fs::remove_file(&self.target)?;
            // Made for it, if nothing else is there; the home directory never is empty.
            let _ = fs::remove_dir(dir);
            return Ok(());
        };
        fs::create_dir_all(dir)?;
        let mut file = tempfile::Builder::new()
            .prefix(".rustory-")
            .tempfile_in(dir)?;
        file.write_all(text)?;
        match fs::metadata(&self.target) {
            Ok(meta) => {
                file.as_file().set_permissions(meta.permissions())?;
                // Only root can give a file away, and only root needs to.
                let _ =
                    std::os::unix::fs::fchown(file.as_file(), Some(meta.uid()), Some(meta.gid()));
                if meta.permissions().mode() & 0o200 == 0 {
                    return Err(io::Error::from(io::ErrorKind::PermissionDenied));
                }
            }
            Err(_) => file
                .as_file()
                .set_permissions(fs::Permissions::from_mode(0o644))?,
        }
        file.as_file().sync_all()?;
        file.persist(&self.target).map_err(|err| err.error)?;
        // The new name has to survive a power cut too; some file systems can't do this.
        let _ = fs::File::open(dir).and_then(|dir| dir.sync_all());
        Ok(())
    }

    fn check_unchanged(&self) -> io::Result<()> {
        let now = match fs::read(&self.target) {
            Ok(text) => Some(BString::from(text)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => None,
            Err(err) => return Err(err),
        };
        if now != self.text {
            return Err(io::Error::other(
                "somebody else has just changed it; try again",
            ));
        }
        Ok(())
    }
}

/// An rc file may be a link to `/dev/null`, which a rename would replace for the whole machine, or
/// a pipe, which would be waited for.
fn refuse_what_is_no_file(target: &Path) -> io::Result<()> {
    let what = match fs::metadata(target)?.file_type() {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => "a directory",
        _ => "a device or a pipe",
    };
    let message = format!("`{}` is {what}, no file", target.display());
    Err(io::Error::other(message))
}
