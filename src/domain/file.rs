//! Files on their way from one side to the other. Only what is said of them stands here and in the store; their bytes go
//! from socket to socket.

use std::fmt;

use hmac::{Hmac, Mac};
use ruma::OwnedEventId;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{DebtId, LoginId, Timestamp, effect::Sender, input::Failure};

/// How a file is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    /// To be seen at once.
    Image,
    /// To be played.
    Video,
    /// To be heard.
    Audio,
    /// To be kept.
    File,
    /// A picture that stands for words.
    Sticker,
}

/// What is said of a file. Whatever the other side says is a claim until the bytes were seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// How it is shown.
    pub kind: FileKind,
    /// Its name, cleaned: no path, no control characters.
    pub name: String,
    /// Its media type (RFC 6838), such as `image/png`.
    pub mime: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
    /// Pixels across.
    pub width: Option<u32>,
    /// Pixels down.
    pub height: Option<u32>,
    /// Milliseconds.
    pub duration: Option<u64>,
}

/// A file on its way to a contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingFile {
    /// `mxc://` URI.
    pub media: String,
    /// What its event says of it.
    pub info: FileInfo,
    /// The size is that of the bytes, not only what the event says.
    pub measured: bool,
    /// Payloads that go beside it, as XML.
    pub payloads: Vec<String>,
    /// The event that it is of.
    pub event: OwnedEventId,
    /// When it was sent.
    pub written: Timestamp,
}

/// A file on its way into a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncomingFile {
    /// Where it lies, `https` or `http`.
    pub url: String,
    /// What the sender's client says of it.
    pub info: FileInfo,
    /// What the sender says to it.
    pub caption: Option<String>,
    /// Who sent it.
    pub sender: Sender,
    /// The name of the stanza that it answers.
    pub answers: Option<String>,
    /// When, if not now.
    pub at: Option<Timestamp>,
    /// The names of its stanza.
    pub binds: Vec<String>,
}

/// A file on its way to a contact, with what goes beside it. [`OutgoingFile`] alone is what stores of earlier versions hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingMedia {
    /// The file.
    pub file: OutgoingFile,
    /// A small picture of it that goes first.
    pub preview: Option<OutgoingPreview>,
}

impl From<OutgoingFile> for OutgoingMedia {
    fn from(file: OutgoingFile) -> Self {
        Self { file, preview: None }
    }
}

/// A small picture of a file, in the homeserver's media.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingPreview {
    /// `mxc://` URI.
    pub media: String,
    /// Its media type.
    pub mime: String,
    /// Bytes.
    pub size: u64,
    /// Pixels across.
    pub width: Option<u32>,
    /// Pixels down.
    pub height: Option<u32>,
    /// Where the contact can fetch it, once it is there.
    pub url: Option<String>,
}

/// A file on its way into a room, with what goes beside it. [`IncomingFile`] alone is what stores of earlier versions hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncomingMedia {
    /// The file. An address that begins with `cid:` is that of a bit of binary (XEP-0231).
    pub file: IncomingFile,
    /// Of a bit of binary its bytes, once they are here and are known to be those that the address names.
    pub data: Option<Vec<u8>>,
    /// Of a bit of binary the client that has it: whole address.
    pub from: Option<String>,
    /// Of a bit of binary what is said if it does not come; nothing where a text says it already.
    pub words: Option<String>,
    /// If it is to be heard it is a voice message.
    pub voice: bool,
    /// A small picture of it.
    pub preview: Option<Preview>,
}

impl From<IncomingFile> for IncomingMedia {
    fn from(file: IncomingFile) -> Self {
        Self { file, data: None, from: None, words: None, voice: false, preview: None }
    }
}

/// A small picture of a file (XEP-0264).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Preview {
    /// It lies here, `https` or `http`.
    At(String),
    /// It came with the stanza.
    Bytes(Vec<u8>),
}

/// Media of the homeserver that the bridge gives to whoever has the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicFile {
    /// `mxc://` URI.
    pub media: String,
    /// Its name, cleaned.
    pub name: String,
    /// Its media type, as its event says.
    pub mime: Option<String>,
    /// The event that it is of.
    pub event: OwnedEventId,
    /// When the link ends.
    pub expires: Timestamp,
}

/// Names a [`PublicFile`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId {
    /// Whose file.
    pub login: LoginId,
    /// The debt that it was said by.
    pub debt: DebtId,
}

/// What links are signed with.
#[derive(Clone)]
pub struct LinkKey(Zeroizing<[u8; 32]>);

impl LinkKey {
    /// A key of these bytes.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// HMAC-SHA-256 (RFC 2104) over the text.
    pub fn mac(&self, text: &str) -> Hmac<Sha256> {
        // A key of 32 bytes is shorter than SHA-256's block of 64: HMAC takes it as it is.
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(&*self.0);
        let mut mac = <Hmac<Sha256> as Mac>::new((&*block).into());
        mac.update(text.as_bytes());
        mac
    }
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LinkKey(..)")
    }
}

/// Where a file may be put (XEP-0363 section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Where it is put.
    pub put: String,
    /// Headers of that request: `Authorization`, `Cookie` and `Expires` alone, without line breaks.
    pub headers: Vec<(String, String)>,
    /// Where it can be had from then on.
    pub get: String,
}

/// A transfer for a shell to make; comes back as [`super::Input::Transferred`]. Never more than one of a debt at a time.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// The debt that it helps to pay.
    pub debt: DebtId,
    /// The network of the login, in the configuration.
    pub network: String,
    /// The domain of the account: whose certificates count.
    pub domain: String,
    /// What to do.
    pub job: Job,
}

/// What a transfer does.
#[derive(Clone, Debug)]
pub enum Job {
    /// Finds out how large media of the homeserver is. Gives [`TransferOutcome::Size`].
    Measure {
        /// `mxc://` URI.
        media: String,
    },
    /// Carries media of the homeserver to a slot. Gives [`TransferOutcome::Uploaded`], or the size where it is another.
    Put {
        /// `mxc://` URI.
        media: String,
        /// Bytes, as they were announced for the slot.
        size: u64,
        /// Media type.
        mime: String,
        /// Where to.
        slot: Slot,
    },
    /// Carries a file from the web into the homeserver's media. Gives [`TransferOutcome::Stored`].
    Take {
        /// Where from.
        url: String,
        /// Name.
        name: String,
        /// Media type that the sender said, if any.
        mime: Option<String>,
        /// A small picture of it, to be carried too if that works.
        preview: Option<Preview>,
    },
    /// Puts bytes that are here into the homeserver's media if they are a picture. Gives [`TransferOutcome::Stored`].
    Keep {
        /// Name, without an extension.
        name: String,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

/// How a transfer went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferOutcome {
    /// It is in its slot.
    Uploaded,
    /// So many bytes it has.
    Size(u64),
    /// It is in the homeserver's media.
    Stored(Stored),
    /// It did not work.
    Failed {
        /// On which side.
        at: Side,
        /// Why; the sentence is the end of one that begins with the file.
        failure: Failure,
    },
}

/// A side of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The homeserver.
    Matrix,
    /// The web server that a contact's or the account's server named.
    Web,
}

/// A file in the homeserver's media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// `mxc://` URI.
    pub url: String,
    /// Media type by content, or by what a safe header says.
    pub mime: String,
    /// Bytes.
    pub size: u64,
    /// Pixels, of a picture.
    pub dimensions: Option<(u32, u32)>,
    /// The small picture of it.
    pub preview: Option<Box<Stored>>,
}
