//! The place of dumps: a folder with a folder for each instance, or a bucket with such keys.

use crate::config::DumpPlace;
use crate::names::Guid;
use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use s3_client::Client;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};
use tokio::io::AsyncWriteExt as _;

const FORM: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]-[minute]-[second]Z");
const EXTENSION: &str = ".dump";

/// A dump that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dump {
    pub(crate) instance: Guid,
    pub(crate) at: OffsetDateTime,
    pub(crate) bytes: u64,
}

impl Dump {
    /// Returns its time as operators write it: `2026-11-30T03-00-00Z`.
    pub(crate) fn name(&self) -> String {
        self.at.format(FORM).unwrap_or_default()
    }

    fn key(&self) -> String {
        format!("{}/{}{EXTENSION}", self.instance, self.name())
    }

    /// Reads a path below the place: the guid of the instance and the time.
    fn of_key(key: &str, bytes: u64) -> Option<Self> {
        let (instance, file) = key.split_once('/')?;
        let at = PrimitiveDateTime::parse(file.strip_suffix(EXTENSION)?, FORM).ok()?;
        Some(Self {
            instance: Guid::parse(instance)?,
            at: at.assume_utc(),
            bytes,
        })
    }
}

#[derive(Debug)]
pub(crate) enum Place {
    Folder(PathBuf),
    Bucket {
        client: Box<Client>,
        prefix: String,
        /// The folder in which dumps are written before they are sent.
        work: PathBuf,
    },
}

impl Place {
    /// Opens the place. `data_dir` has room for a dump that is on its way to a bucket.
    pub(crate) fn open(place: &DumpPlace, data_dir: &Path) -> Result<Self> {
        Ok(match place {
            DumpPlace::Folder(folder) => {
                make_folder(folder)?;
                Self::Folder(folder.clone())
            }
            DumpPlace::Bucket { s3, prefix } => {
                let work = data_dir.join("dumps");
                make_folder(&work)?;
                Self::Bucket {
                    client: Box::new(Client::new(s3, "postgres.dumps.s3")?),
                    prefix: prefix.clone(),
                    work,
                }
            }
        })
    }

    /// Returns the path of a file that is no dump yet.
    pub(crate) fn temporary(&self, instance: Guid) -> PathBuf {
        let folder = match self {
            Self::Folder(folder) => folder,
            Self::Bucket { work, .. } => work,
        };
        folder.join(format!(".{instance}-{}.partial", Guid::random()))
    }

    /// Stores a file as a dump. It is stored as a whole or not at all.
    pub(crate) async fn store(
        &self,
        instance: Guid,
        at: OffsetDateTime,
        file: &Path,
    ) -> Result<Dump> {
        let bytes = std::fs::metadata(file)
            .with_context(|| format!("examine {}", file.display()))?
            .len();
        let dump = Dump {
            instance,
            at,
            bytes,
        };
        match self {
            Self::Folder(folder) => {
                let to = folder.join(dump.key());
                make_folder(&folder.join(instance.to_string()))?;
                let from = file.to_owned();
                let store = move || -> std::io::Result<()> {
                    std::fs::File::open(&from)?.sync_all()?;
                    std::fs::rename(&from, &to)?;
                    let parent = to.parent().unwrap_or(&to);
                    std::fs::File::open(parent)?.sync_all()
                };
                tokio::task::spawn_blocking(store)
                    .await?
                    .with_context(|| format!("store a dump below {}", folder.display()))?;
            }
            Self::Bucket { client, prefix, .. } => {
                let key = format!("{prefix}{}", dump.key());
                let stored = client.put(&key, file).await;
                stored.with_context(|| format!("store {key} in {}", client.url()))?;
            }
        }
        Ok(dump)
    }

    /// Returns all dumps, the oldest first.
    pub(crate) async fn list(&self) -> Result<Vec<Dump>> {
        let mut dumps = match self {
            Self::Folder(folder) => {
                let own = folder.clone();
                tokio::task::spawn_blocking(move || list_folder(&own))
                    .await?
                    .with_context(|| format!("list the dumps in {}", folder.display()))?
            }
            Self::Bucket { client, prefix, .. } => {
                let listed = client.list(prefix).await;
                let listed =
                    listed.with_context(|| format!("list the dumps in {}", client.url()))?;
                let dumps = listed.iter();
                dumps
                    .filter_map(|object| Dump::of_key(&object.name, object.size))
                    .collect()
            }
        };
        dumps.sort_by_key(|dump| (dump.at, dump.instance));
        Ok(dumps)
    }

    /// Writes a dump to a file.
    pub(crate) async fn fetch(&self, dump: &Dump, to: &Path) -> Result<()> {
        match self {
            Self::Folder(folder) => {
                let from = folder.join(dump.key());
                tokio::fs::copy(&from, to)
                    .await
                    .with_context(|| format!("read {}", from.display()))?;
            }
            Self::Bucket { client, prefix, .. } => {
                let key = format!("{prefix}{}", dump.key());
                let object = client.get(&key).await;
                let object = object.with_context(|| format!("fetch {key}"))?;
                let mut object =
                    object.with_context(|| format!("{key} is not in {}", client.url()))?;
                let file = std::fs::OpenOptions::new()
                    .create(true)
                    .write(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(to)
                    .with_context(|| format!("create {}", to.display()))?;
                let mut file = tokio::fs::File::from_std(file);
                let mut length = 0;
                while let Some(chunk) = object.content.next().await {
                    let chunk = chunk.with_context(|| format!("fetch {key}"))?;
                    length += chunk.len() as u64;
                    file.write_all(&chunk)
                        .await
                        .with_context(|| format!("write {}", to.display()))?;
                }
                file.flush().await.context("write the dump")?;
                ensure!(
                    length == object.length,
                    "{key} has {} bytes, and {length} arrived",
                    object.length
                );
            }
        }
        Ok(())
    }

    /// Removes a dump. One that does not exist is no error.
    pub(crate) async fn remove(&self, dump: &Dump) -> Result<()> {
        match self {
            Self::Folder(folder) => {
                let file = folder.join(dump.key());
                match std::fs::remove_file(&file) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error).with_context(|| format!("remove {}", file.display()));
                    }
                    _ => {}
                }
                // The folder of an instance without dumps is removed with the last one.
                let _ = std::fs::remove_dir(folder.join(dump.instance.to_string()));
            }
            Self::Bucket { client, prefix, .. } => {
                let key = format!("{prefix}{}", dump.key());
                let removed = client.delete(&key).await;
                removed.with_context(|| format!("remove {key} from {}", client.url()))?;
            }
        }
        Ok(())
    }
}

fn make_folder(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("create {}", path.display()))
}

fn list_folder(folder: &Path) -> std::io::Result<Vec<Dump>> {
    let mut dumps = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let instance = entry.file_name().to_string_lossy().into_owned();
        if Guid::parse(&instance).is_none() || !entry.file_type()?.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(entry.path())? {
            let file = file?;
            let key = format!("{instance}/{}", file.file_name().to_string_lossy());
            dumps.extend(Dump::of_key(&key, file.metadata()?.len()));
        }
    }
    Ok(dumps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const GUID: &str = "00000000-0000-4000-8000-000000000001";

    #[tokio::test]
    async fn a_folder_keeps_dumps() {
        let folder = tempfile::tempdir().unwrap();
        let place = DumpPlace::Folder(folder.path().join("dumps"));
        let place = Place::open(&place, folder.path()).unwrap();
        let guid = Guid::parse(GUID).unwrap();
        let file = place.temporary(guid);
        std::fs::write(&file, "content").unwrap();
        let at = datetime!(2026-11-30 3:00:07 UTC);
        let dump = place.store(guid, at, &file).await.unwrap();
        assert_eq!(dump.name(), "2026-11-30T03-00-07Z");
        assert!(!file.exists());
        // Files of others are no dumps.
        std::fs::write(folder.path().join("dumps").join(GUID).join("x.dump"), "").unwrap();
        std::fs::write(folder.path().join("dumps/readme"), "").unwrap();
        assert_eq!(place.list().await.unwrap(), [dump.clone()]);
        let copy = folder.path().join("copy");
        place.fetch(&dump, &copy).await.unwrap();
        assert_eq!(std::fs::read_to_string(copy).unwrap(), "content");
        place.remove(&dump).await.unwrap();
        place.remove(&dump).await.unwrap();
        assert!(place.list().await.unwrap().is_empty());
    }

    #[test]
    fn keys_are_read() {
        let key = format!("{GUID}/2026-11-30T03-00-07Z.dump");
        let dump = Dump::of_key(&key, 7).unwrap();
        assert_eq!(dump.key(), key);
        for key in ["x/2026-11-30T03-00-07Z.dump", "2026-11-30T03-00-07Z.dump"] {
            assert_eq!(Dump::of_key(key, 7), None, "{key}");
        }
        assert_eq!(Dump::of_key(&format!("{GUID}/../../x.dump"), 7), None);
    }
}
