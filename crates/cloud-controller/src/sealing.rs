//! Seals secrets before they are stored: AES-256-GCM with a key of a file that only the Cloud Controller's user can read.
//!
//! ```text
//!  actions ──▶ Keyring::seal(row, text) ──▶ Sealed ──▶ db (a column of this type has no other way to a value)
//!  diego, api ◀── Keyring::open(row, sealed) ◀── Sealed ◀── db
//! ```
//!
//! The file has a key per line, the newest first. The newest one seals; all of them open. A sealed text begins with the label of its
//! key, which is derived from the key, and belongs to one row: it cannot be opened as another row's. [`rotate`] adds a key, and
//! [`crate::secrets`] then seals again what older keys have sealed. This module knows no tables.

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use cc_rules::ordered_json::OrderedJson;
use kit::db::{BoxDynError, Cell, FromCell};
use kit::private_file;
use rand::RngCore as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

const KEY_BYTES: usize = 32;

/// The beginning of every sealed text. It is followed by the label of the key.
const FORM: &str = "v1.";

/// The number of characters of a label.
const LABEL: usize = 12;

/// A secret as the database has it. Only [`Keyring::seal`] makes one from a text. The default is the secret of a row that has none.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Sealed(String);

/// The stored text of no secret.
const NOTHING: &str = "v1.-";

impl Default for Sealed {
    fn default() -> Self {
        Self(NOTHING.to_owned())
    }
}

impl Sealed {
    pub(crate) fn is_nothing(&self) -> bool {
        self.0 == NOTHING
    }

    /// Returns the text that is stored.
    pub(crate) fn stored(&self) -> &str {
        &self.0
    }

    fn label(&self) -> &str {
        let after = self.0.strip_prefix(FORM).unwrap_or_default();
        after.get(..LABEL).unwrap_or_default()
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[sealed]")
    }
}

/// A column with a text that is not sealed is damaged.
impl FromCell<'_> for Sealed {
    fn from_cell(cell: Cell<'_>) -> Result<Self, BoxDynError> {
        let text = <&str>::from_cell(cell)?;
        if text.starts_with(FORM) {
            Ok(Self(text.to_owned()))
        } else {
            Err("the value is not sealed".into())
        }
    }
}

/// The reason why a secret cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(
        "the secret of {row} is sealed with the key '{label}', which {file} does not have: restore the file from a backup"
    )]
    UnknownKey {
        row: String,
        label: String,
        file: String,
    },
    #[error("the secret of {row} is damaged, or belongs to another row")]
    Damaged { row: String },
}

struct Key {
    label: String,
    key: LessSafeKey,
}

impl Key {
    /// Reads a key as the file has it: 64 hexadecimal digits.
    fn read(line: &str) -> Option<Self> {
        let bytes = hex::decode(line).ok().filter(|b| b.len() == KEY_BYTES)?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).ok()?);
        let mut label = hex::encode(Sha256::digest(&bytes));
        label.truncate(LABEL);
        Some(Self { label, key })
    }
}

/// The keys of a file; it is cheap to clone.
#[derive(Clone)]
pub(crate) struct Keyring(Arc<Shared>);

struct Shared {
    path: PathBuf,
    keys: RwLock<Arc<Vec<Key>>>,
}

/// Prints the path only.
impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Keyring").field(&self.0.path).finish()
    }
}

impl Keyring {
    /// Opens a file of keys, and creates it with one key if it does not exist.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        create_if_missing(path)?;
        let keys = RwLock::new(Arc::new(read(path)?));
        let path = path.to_owned();
        Ok(Self(Arc::new(Shared { path, keys })))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    fn keys(&self) -> Arc<Vec<Key>> {
        let keys = self.0.keys.read();
        keys.expect("no panic while holding it").clone()
    }

    /// Reads the file again. If it is wrong, the keys stay as they were.
    pub(crate) fn reload(&self) -> Result<()> {
        let keys = Arc::new(read(&self.0.path)?);
        *self.0.keys.write().expect("no panic while holding it") = keys;
        Ok(())
    }

    /// Returns the labels of all keys, the newest first. There is at least one.
    pub(crate) fn labels(&self) -> Vec<String> {
        self.keys().iter().map(|key| key.label.clone()).collect()
    }

    /// Seals a secret of a row with the newest key.
    pub(crate) fn seal(&self, row: &str, secret: &str) -> Result<Sealed> {
        let keys = self.keys();
        let key = keys.first().context("there is no key")?;
        let mut nonce = [0; NONCE_LEN];
        rand::rng().fill_bytes(&mut nonce);
        let mut sealed = secret.as_bytes().to_vec();
        key.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(row.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| anyhow::anyhow!("the secret of {row} cannot be sealed"))?;
        let bytes = [nonce.as_slice(), &sealed[..]].concat();
        let text = STANDARD_NO_PAD.encode(bytes);
        Ok(Sealed(format!("{FORM}{}.{text}", key.label)))
    }

    /// Opens a secret of a row. A key that another process added a moment ago is read from the file first.
    pub(crate) fn open(&self, row: &str, sealed: &Sealed) -> Result<String, OpenError> {
        let damaged = || OpenError::Damaged {
            row: row.to_owned(),
        };
        let label = sealed.label();
        if !self.has(label)
            && let Err(error) = self.reload()
        {
            tracing::warn!(error = format!("{error:#}"), "keys-not-read");
        }
        let keys = self.keys();
        let Some(key) = keys.iter().find(|key| key.label == label) else {
            return Err(OpenError::UnknownKey {
                row: row.to_owned(),
                label: label.to_owned(),
                file: self.0.path.display().to_string(),
            });
        };
        let after = sealed.0.get(FORM.len() + LABEL..).unwrap_or_default();
        let text = after.strip_prefix('.').ok_or_else(damaged)?;
        let mut bytes = STANDARD_NO_PAD.decode(text).map_err(|_| damaged())?;
        let (nonce, rest) = bytes.split_at_mut_checked(NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let opened = key
            .key
            .open_in_place(nonce, Aad::from(row.as_bytes()), rest);
        let secret = opened.map_err(|_| damaged())?;
        String::from_utf8(secret.to_vec()).map_err(|_| damaged())
    }

    /// Seals a JSON value of a row, if there is one.
    pub(crate) fn seal_json(
        &self,
        row: &str,
        json: Option<&OrderedJson>,
    ) -> Result<Option<Sealed>> {
        json.map(|json| self.seal(row, &json.text())).transpose()
    }

    /// Opens a JSON value of a row, if there is one.
    pub(crate) fn open_json(
        &self,
        row: &str,
        sealed: Option<&Sealed>,
    ) -> Result<Option<OrderedJson>, OpenError> {
        let Some(sealed) = sealed else {
            return Ok(None);
        };
        let text = self.open(row, sealed)?;
        let json = serde_json::from_str(&text);
        json.map(Some).map_err(|_| OpenError::Damaged {
            row: row.to_owned(),
        })
    }

    /// Seals a value of a row as JSON.
    pub(crate) fn seal_as<T: Serialize>(&self, row: &str, value: &T) -> Result<Sealed> {
        self.seal(row, &serde_json::to_string(value)?)
    }

    /// Opens a value of a row. A row without a secret has the default value.
    pub(crate) fn open_as<T: DeserializeOwned + Default>(
        &self,
        row: &str,
        sealed: &Sealed,
    ) -> Result<T, OpenError> {
        if sealed.is_nothing() {
            return Ok(T::default());
        }
        let text = self.open(row, sealed)?;
        serde_json::from_str(&text).map_err(|_| OpenError::Damaged {
            row: row.to_owned(),
        })
    }

    fn has(&self, label: &str) -> bool {
        self.keys().iter().any(|key| key.label == label)
    }
}

fn read(path: &Path) -> Result<Vec<Key>> {
    let place = path.display();
    let metadata = std::fs::metadata(path).with_context(|| format!("read the keys in {place}"))?;
    let mode = metadata.permissions().mode() & 0o777;
    ensure!(
        mode & 0o077 == 0,
        "the keys in {place} are secret, and others may read them (mode {mode:o}): run `chmod 600 {place}`"
    );
    let text =
        std::fs::read_to_string(path).with_context(|| format!("read the keys in {place}"))?;
    let mut keys = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some(key) = Key::read(line) else {
            bail!(
                "line {} of {place} is no key, which has {} hexadecimal digits: restore the file from a backup",
                at + 1,
                2 * KEY_BYTES
            );
        };
        keys.push(key);
    }
    ensure!(
        !keys.is_empty(),
        "{place} has no key: restore it from a backup"
    );
    Ok(keys)
}

const HEADER: &str = "# The keys with which the Cloud Controller seals secrets in its database, the newest first.\n# Keep a copy apart from the backups of the database: without the keys the secrets are lost.\n";

fn fresh_key() -> String {
    let mut bytes = [0; KEY_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    hex::encode(bytes)
}

/// Creates a file of keys, unless another process creates it at the same time.
fn create_if_missing(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let text = format!("{HEADER}{}\n", fresh_key());
    private_file::create(path, &text).context("create the keys")?;
    Ok(())
}

/// Adds a new key to the file of a Cloud Controller, which then seals with it. Returns its label and the number of all keys.
/// A running Cloud Controller notices the change within seconds.
pub(crate) fn rotate(path: &Path) -> Result<(String, usize)> {
    let known = read(path)?.len();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("read the keys in {}", path.display()))?;
    let kept: String = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| [line, "\n"])
        .collect();
    let key = fresh_key();
    private_file::replace(path, &format!("{HEADER}{key}\n{kept}")).context("add a key")?;
    let label = Key::read(&key).map(|key| key.label).unwrap_or_default();
    Ok((label, known + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring() -> (tempfile::TempDir, Keyring) {
        let folder = tempfile::tempdir().unwrap();
        let keyring = Keyring::load(&folder.path().join("keys")).unwrap();
        (folder, keyring)
    }

    #[test]
    fn a_secret_returns_and_its_text_is_hidden() {
        let (_folder, keyring) = keyring();
        let (one, other) = (
            keyring.seal("row", "s3cret").unwrap(),
            keyring.seal("row", "s3cret").unwrap(),
        );
        assert_ne!(one, other, "the nonces differ");
        assert_eq!(keyring.open("row", &one).unwrap(), "s3cret");
        let label = &keyring.labels()[0];
        assert!(one.stored().starts_with(&format!("v1.{label}.")));
        for text in [one.stored(), &format!("{one:?} {keyring:?}")] {
            assert!(!text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn a_secret_opens_only_unchanged_and_in_its_row() {
        let (_folder, keyring) = keyring();
        let sealed = keyring.seal("row", "s3cret").unwrap();
        let damaged = OpenError::Damaged {
            row: "other".to_owned(),
        };
        assert_eq!(keyring.open("other", &sealed), Err(damaged));
        let text = sealed.stored();
        for wrong in [
            text[..text.len() - 1].to_owned(),
            format!("{text}A"),
            text[..FORM.len() + LABEL + 1].to_owned(),
            text[..FORM.len() + LABEL].to_owned(),
            text.replace('.', "-").replacen("v1-", FORM, 1),
        ] {
            let opened = keyring.open("row", &Sealed(wrong.clone()));
            assert!(opened.is_err(), "{wrong}");
        }
        let foreign = Sealed(format!("{FORM}0123456789ab.AAAA"));
        let error = keyring.open("row", &foreign).unwrap_err();
        assert!(matches!(error, OpenError::UnknownKey { .. }), "{error}");
        assert!(Sealed::from_cell(Cell::Text("plain")).is_err());
        assert!(Sealed::from_cell(Cell::Text(text)).is_ok());
    }

    #[test]
    fn json_keeps_its_order_and_nothing_stays_nothing() {
        let (_folder, keyring) = keyring();
        let json: OrderedJson = serde_json::from_str(r#"{"z":1,"a":2}"#).unwrap();
        let sealed = keyring.seal_json("row", Some(&json)).unwrap();
        let opened = keyring.open_json("row", sealed.as_ref()).unwrap();
        assert_eq!(opened, Some(json));
        assert_eq!(keyring.seal_json("row", None).unwrap(), None);
        assert_eq!(keyring.open_json("row", None), Ok(None));
        let text = keyring.seal("row", "{").unwrap();
        assert!(keyring.open_json("row", Some(&text)).is_err());
    }

    #[test]
    fn a_row_without_a_secret_has_the_default_value() {
        let (_folder, keyring) = keyring();
        let nothing = Sealed::default();
        assert_eq!(keyring.open_as::<Vec<u8>>("row", &nothing), Ok(Vec::new()));
        assert!(Sealed::from_cell(Cell::Text(nothing.stored())).is_ok());
        let sealed = keyring.seal_as("row", &[1, 2]).unwrap();
        assert_eq!(keyring.open_as::<Vec<u8>>("row", &sealed), Ok(vec![1, 2]));
        assert!(keyring.open_as::<String>("row", &sealed).is_err());
    }

    #[test]
    fn the_file_is_private_and_is_created_once() {
        let (folder, keyring) = keyring();
        let path = folder.path().join("keys");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Keyring::load(&path).unwrap().labels(), keyring.labels());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = format!("{:#}", Keyring::load(&path).unwrap_err());
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_wrong_file_is_refused_and_names_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        for (text, wanted) in [("", "has no key"), ("# x\nabc\n", "line 2 of")] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let error = format!("{:#}", Keyring::load(&path).unwrap_err());
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn after_a_rotation_the_new_key_seals_and_the_old_one_opens() {
        let (folder, keyring) = keyring();
        let path = folder.path().join("keys");
        let old = keyring.seal("row", "one").unwrap();
        let (label, count) = rotate(&path).unwrap();
        assert_eq!(count, 2);
        // Another process has noticed the new key before this one has.
        let other = Keyring::load(&path).unwrap();
        assert_eq!(other.labels()[0], label);
        let new = other.seal("row", "two").unwrap();
        assert_eq!(new.label(), label);
        assert_eq!(keyring.open("row", &new).unwrap(), "two");
        assert_eq!(keyring.open("row", &old).unwrap(), "one");
        assert_eq!(keyring.labels(), other.labels());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
