//! Secrets sealed at rest: XChaCha20-Poly1305 with a key that lives in a file outside the store.
//!
//! The nonce is synthetic, for this layer has no randomness: the first 24 bytes of HMAC-SHA-256 over the record's key and
//! the plain text, under a key of its own. Equal text under the same key seals to equal bytes, which tells a thief only
//! that a credential did not change; different text never shares a nonce. The record's key is authenticated too, so that
//! a sealed value does not open in another's place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::backend::{Backend, StoreError};
use super::integrity::{hex, sync_directory, unhex};
use super::overlay::Overlay;

const VERSION: u8 = 1;
const NONCE: usize = 24;
/// Where the store keeps a known value sealed, by which a wrong key file is told at once.
pub const CHECK_KEY: &[u8] = b"\0keycheck";
const CHECK_TEXT: &[u8] = b"messenger-bridge key check";

/// The key file: 32 bytes, raw or as 64 hexadecimal digits, readable by its owner alone.
pub struct KeyFile {
    key: Zeroizing<[u8; 32]>,
}

impl KeyFile {
    /// Reads the key at `path`, which must exist.
    ///
    /// # Errors
    /// [`StoreError::KeyFile`] with a sentence: not there, open to others, or not a key.
    pub fn load(path: &Path) -> Result<Self, StoreError> {
        Self::read(path)?.ok_or_else(|| {
            unusable(path, "there is no such file; put the one back that belongs to this store (see `store.key_file`)")
        })
    }

    /// Reads the key at `path`; if there is no file, makes one of `entropy` with mode 0600. For a store that holds
    /// sealed values already use [`KeyFile::load`].
    ///
    /// # Errors
    /// [`StoreError::KeyFile`] with a sentence.
    pub fn load_or_create(path: &Path, entropy: [u8; 32]) -> Result<Self, StoreError> {
        let entropy = Zeroizing::new(entropy);
        if let Some(key) = Self::read(path)? {
            return Ok(key);
        }
        match create(path, &entropy) {
            // Another process was quicker: its key is the key.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::load(path),
            Err(error) => Err(unusable(path, &format!("it cannot be made: {error}"))),
            Ok(()) => Ok(Self { key: entropy }),
        }
    }

    fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(path, &format!("it cannot be opened: {error}"))),
            Ok(file) => file,
        };
        let metadata = file.metadata().map_err(|error| unusable(path, &error.to_string()))?;
        if !metadata.is_file() {
            return Err(unusable(path, "it is not a file; name a file in `store.key_file`"));
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(unusable(path, "others than its owner can get at it; run `chmod 600` on it"));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(128));
        Read::by_ref(&mut file)
            .take(128)
            .read_to_end(&mut bytes)
            .map_err(|error| unusable(path, &format!("it cannot be read: {error}")))?;
        let key = match <[u8; 32]>::try_from(bytes.as_slice()) {
            Ok(raw) => Some(raw),
            Err(_) => std::str::from_utf8(&bytes).ok().and_then(|text| unhex(text.trim_ascii_end())),
        };
        let why = "it must hold 32 bytes, or 64 hexadecimal digits; put the right file back";
        key.map(|key| Some(Self { key: Zeroizing::new(key) })).ok_or_else(|| unusable(path, why))
    }
}

/// Makes the file whole or not at all, and never over another.
fn create(path: &Path, key: &[u8; 32]) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let mut new = PathBuf::from(path).into_os_string();
    new.push(format!(".{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let write = |file: &mut File| {
        let mut text = hex(key);
        let written = file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n"));
        text.zeroize();
        written?;
        file.sync_all()?;
        // Unlike a rename, a link does not replace what is there.
        fs::hard_link(&new, path)
    };
    let done = write(&mut file);
    fs::remove_file(&new)?;
    done?;
    sync_directory(parent).map_err(io::Error::other)
}

fn unusable(path: &Path, why: &str) -> StoreError {
    StoreError::KeyFile { path: path.to_owned(), why: why.to_owned() }
}

/// Seals and opens values.
pub struct Seal {
    cipher: XChaCha20Poly1305,
    nonce_key: Zeroizing<[u8; 32]>,
    derive_key: Zeroizing<[u8; 32]>,
    mark_key: Zeroizing<[u8; 32]>,
}

impl Seal {
    /// A seal with the key of `file`, from which a cipher key and a nonce key are derived.
    pub fn new(file: &KeyFile) -> Self {
        let cipher_key = Zeroizing::new(keyed(&file.key, &[b"messenger-bridge seal 1: cipher"]));
        let nonce_key = Zeroizing::new(keyed(&file.key, &[b"messenger-bridge seal 1: nonce"]));
        let derive_key = Zeroizing::new(keyed(&file.key, &[b"messenger-bridge seal 1: derive"]));
        let mark_key = Zeroizing::new(keyed(&file.key, &[b"messenger-bridge seal 1: mark"]));
        Self { cipher: XChaCha20Poly1305::new(Key::from_slice(&*cipher_key)), nonce_key, derive_key, mark_key }
    }

    /// A key for something else, by its purpose: who has one cannot find another, nor what is sealed.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(keyed(&self.derive_key, &[purpose.as_bytes()]))
    }

    /// What only the holder of the key can say of these texts together: 32 hexadecimal digits of an HMAC-SHA-256.
    pub fn mark(&self, texts: &[&str]) -> String {
        let lengths: Vec<[u8; 8]> = texts.iter().map(|text| (text.len() as u64).to_le_bytes()).collect();
        let parts: Vec<&[u8]> =
            lengths.iter().zip(texts).flat_map(|(length, text)| [&length[..], text.as_bytes()]).collect();
        hex(&keyed(&self.mark_key, &parts)[..16])
    }

    /// `plain`, sealed for the record under `key`: `[version][24 bytes of nonce][ciphertext and tag]`.
    pub fn seal(&self, key: &[u8], plain: &[u8]) -> Vec<u8> {
        let digest = keyed(&self.nonce_key, &[&(key.len() as u64).to_le_bytes(), key, plain]);
        let nonce = &digest[..NONCE];
        let mut sealed = Vec::with_capacity(1 + NONCE + plain.len() + 16);
        sealed.push(VERSION);
        sealed.extend_from_slice(nonce);
        match self.cipher.encrypt(XNonce::from_slice(nonce), Payload { msg: plain, aad: key }) {
            Ok(ciphertext) => sealed.extend_from_slice(&ciphertext),
            // The cipher refuses more than 256 GiB and nothing else.
            Err(_) => unreachable!("a value of {} bytes is over the cipher's limit", plain.len()),
        }
        sealed
    }

    /// The text of what was sealed for the record under `key`; it is wiped when dropped.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it was sealed with another key, for another record, or has changed since.
    pub fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let plain = match sealed.split_first() {
            Some((&VERSION, rest)) => rest.split_first_chunk::<NONCE>().and_then(|(nonce, ciphertext)| {
                self.cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: ciphertext, aad: key }).ok()
            }),
            _ => None,
        };
        plain.map(Zeroizing::new).ok_or_else(|| StoreError::corrupt_record(key, "its seal does not open"))
    }

    /// Checks that this is the key that the store is sealed with. A store that has no such mark yet gets it, pending in
    /// `overlay` until its next commit.
    ///
    /// # Errors
    /// [`StoreError::WrongKey`], or as [`Overlay::get`].
    pub fn check<B: Backend>(&self, overlay: &mut Overlay<B>) -> Result<(), StoreError> {
        match overlay.get(CHECK_KEY)? {
            None => {
                overlay.put(CHECK_KEY, self.seal(CHECK_KEY, CHECK_TEXT));
                Ok(())
            }
            Some(sealed) => match self.open(CHECK_KEY, &sealed) {
                Ok(text) if text.as_slice() == CHECK_TEXT => Ok(()),
                _ => Err(StoreError::WrongKey),
            },
        }
    }
}

fn keyed(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // A key of 32 bytes is shorter than SHA-256's block of 64: HMAC takes it as it is.
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key);
    let mut mac = <Hmac<Sha256> as Mac>::new((&*block).into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::super::memory::MemoryBackend;
    use super::*;

    fn seal(byte: u8) -> Seal {
        Seal::new(&KeyFile { key: Zeroizing::new([byte; 32]) })
    }

    #[test]
    fn a_mark_is_of_its_texts_in_their_order_and_of_its_key() {
        let mark = seal(1).mark(&["a", "bc"]);
        assert_eq!((mark.len(), seal(1).mark(&["a", "bc"])), (32, mark.clone()));
        for other in [seal(1).mark(&["ab", "c"]), seal(1).mark(&["bc", "a"]), seal(2).mark(&["a", "bc"])] {
            assert_ne!(mark, other);
        }
    }

    #[test]
    fn what_is_sealed_opens_under_its_own_key_and_no_other() {
        let (ours, other) = (seal(1), seal(2));
        for plain in [b"".as_slice(), b"password", &[0; 4_000]] {
            let sealed = ours.seal(b"k/1", plain);
            assert_eq!(ours.open(b"k/1", &sealed).unwrap().as_slice(), plain);
            assert_eq!(sealed.len(), 41 + plain.len());
            assert!(plain.is_empty() || !sealed.windows(plain.len()).any(|part| part == plain));
            assert!(matches!(ours.open(b"k/2", &sealed), Err(StoreError::Corrupt { .. })), "moved to another record");
            assert!(other.open(b"k/1", &sealed).is_err(), "another key");
            for length in 0..sealed.len() {
                assert!(ours.open(b"k/1", &sealed[..length]).is_err());
            }
        }
        let sealed = ours.seal(b"k/1", b"password");
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(ours.open(b"k/1", &flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn derived_keys_differ_by_purpose_and_by_key_file() {
        let keys = [seal(1).derive("a"), seal(1).derive("b"), seal(2).derive("a")];
        assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[0] == seal(1).derive("a"));
    }

    #[test]
    fn nonces_differ_by_text_and_by_record() {
        let seal = seal(1);
        let nonce = |key: &[u8], plain: &[u8]| seal.seal(key, plain)[1..25].to_vec();
        let nonces = [nonce(b"a", b"x"), nonce(b"a", b"y"), nonce(b"b", b"x"), nonce(b"ax", b""), nonce(b"", b"ax")];
        for (index, one) in nonces.iter().enumerate() {
            assert!(nonces.iter().skip(index + 1).all(|other| other != one));
        }
        assert_eq!(nonce(b"a", b"x"), nonces[0], "no randomness: the same input seals the same");
    }

    #[test]
    fn keyed_is_hmac_sha_256() {
        // RFC 4231's vectors have keys of other lengths; this is HMAC-SHA-256 of "Hi There" under 32 bytes of 0x0b,
        // worked out from its definition with two plain hashes.
        use sha2::Digest;
        let (inner, outer): (Vec<u8>, Vec<u8>) =
            (0..64).map(|at| if at < 32 { (0x0b ^ 0x36, 0x0b ^ 0x5c) } else { (0x36, 0x5c) }).unzip();
        let inner = Sha256::new().chain_update(&inner).chain_update("Hi There").finalize();
        let expected: [u8; 32] = Sha256::new().chain_update(&outer).chain_update(inner).finalize().into();
        assert_eq!(keyed(&[0x0b; 32], &[b"Hi ", b"There"]), expected);
    }

    #[test]
    fn a_wrong_key_file_is_told_by_the_store() {
        let mut overlay = Overlay::new(MemoryBackend::new());
        seal(1).check(&mut overlay).unwrap();
        assert!(overlay.is_dirty());
        overlay.commit().unwrap();
        seal(1).check(&mut overlay).unwrap();
        assert!(!overlay.is_dirty());
        let error = seal(2).check(&mut overlay).unwrap_err();
        assert!(matches!(error, StoreError::WrongKey));
        assert!(error.to_string().contains("put the right key file back"));
    }

    #[test]
    fn the_key_file_is_made_once_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sub/data.key");
        assert!(matches!(KeyFile::load(&path), Err(StoreError::KeyFile { .. })));
        let made = KeyFile::load_or_create(&path, [7; 32]).unwrap();
        assert_eq!(*made.key, [7; 32]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(*KeyFile::load_or_create(&path, [8; 32]).unwrap().key, [7; 32], "an existing key is kept");
        assert_eq!(*KeyFile::load(&path).unwrap().key, [7; 32]);
        assert!(create(&path, &[9; 32]).is_err(), "and never written over");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no other file is left");
    }

    #[test]
    fn raw_keys_are_taken_and_what_is_no_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let put = |content: &[u8], mode: u32| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        };
        put(&[200; 32], 0o400);
        assert_eq!(*KeyFile::load(&path).unwrap().key, [200; 32]);
        fs::remove_file(&path).unwrap();
        put("AB".repeat(32).as_bytes(), 0o600);
        assert_eq!(*KeyFile::load(&path).unwrap().key, [0xab; 32]);
        for wrong in [b"".as_slice(), &[1; 31], &[1; 33], "g".repeat(64).as_bytes(), "ab".repeat(33).as_bytes()] {
            put(wrong, 0o600);
            let error = KeyFile::load_or_create(&path, [1; 32]).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("must hold 32 bytes"), "{error}");
        }
        for mode in [0o640, 0o604, 0o660, 0o700 | 0o001] {
            put(&[1; 32], mode);
            let error = KeyFile::load(&path).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
        assert!(KeyFile::load(directory.path()).is_err());
    }
}
