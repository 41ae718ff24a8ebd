//! What is asked on a stream, so that the answer is understood when it comes.

use minidom::Element;

use crate::domain::{
    BareJid, DebtId, Timestamp,
    choice::{Choice, Keep},
};

/// An IQ that waits for its answer. Not stored: what is still to be known after a restart is asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The roster (RFC 6121 section 2.1.3).
    Roster,
    /// Adding to the roster (RFC 6121 section 2.3).
    RosterAdd {
        /// Whom.
        contact: BareJid,
    },
    /// What the server can do (XEP-0030).
    ServerFeatures,
    /// What the account can do (XEP-0030).
    AccountFeatures,
    /// Carbons on (XEP-0280).
    Carbons,
    /// A page of what was missed (XEP-0313).
    CatchUp {
        /// After this archive id, or else since this time.
        after: Option<String>,
        /// Since when.
        since: Timestamp,
        /// Messages fetched so far.
        fetched: u32,
        /// Only the newest page: too much was missed.
        newest: bool,
    },
    /// What was said with a contact before its room was there (XEP-0313).
    History {
        /// Whom.
        contact: BareJid,
    },
    /// The same from an archive of recent messages (XEP-0136).
    Recent {
        /// Whom.
        contact: BareJid,
    },
    /// Sent after initial presence: its answer says that all that the server kept has come (XEP-0199).
    Barrier,
    /// Sent after messages where there is no stream management: its answer says that the server has them (XEP-0199).
    Delivery {
        /// Up to this stanza of the session.
        through: u32,
    },
    /// A contact's vCard (XEP-0054).
    VCard {
        /// Whose.
        contact: BareJid,
        /// The photo hash announced at the time.
        hash: Option<String>,
    },
    /// What a client can do (XEP-0115).
    Caps {
        /// The client: whole address.
        client: String,
        /// `node#ver`.
        caps: String,
        /// Of whom.
        contact: BareJid,
    },
    /// Which services the server has (XEP-0030).
    Services,
    /// Whether a service takes files (XEP-0363).
    Service {
        /// Its address.
        service: String,
    },
    /// A place for a file (XEP-0363).
    Slot {
        /// Of which service.
        service: String,
        /// Whose file it will be.
        contact: BareJid,
        /// The debt that it helps to pay.
        debt: DebtId,
        /// The file's name.
        name: String,
        /// Its bytes.
        size: u64,
        /// Its media type.
        mime: String,
        /// It is for the small picture of the file.
        preview: bool,
    },
    /// A bit of binary (XEP-0231).
    Bit {
        /// Of which client: whole address.
        to: String,
        /// Its name.
        cid: String,
        /// Into whose room it goes.
        contact: BareJid,
        /// The debt that it helps to pay.
        debt: DebtId,
    },
    /// Whom the account blocks (XEP-0191).
    BlockList,
    /// Blocking someone, or no longer (XEP-0191).
    Block {
        /// Whom.
        contact: BareJid,
        /// They are blocked.
        blocked: bool,
        /// The debt that it pays.
        debt: DebtId,
    },
    /// What the person has chosen for chats, as the account's server keeps it (XEP-0223).
    Chats,
    /// Keeping it for one of them.
    KeepChat {
        /// With whom.
        contact: BareJid,
        /// What was chosen.
        choice: Choice,
        /// The element that says so; `None` takes it back.
        chat: Option<Element>,
        /// How it is tried.
        step: Keep,
        /// The debt that it pays.
        debt: DebtId,
    },
    /// The bytes of a contact's avatar (XEP-0084).
    Avatar {
        /// Whose.
        contact: BareJid,
        /// Its SHA-1.
        hash: String,
    },
    /// A contact's vCard4 (XEP-0292).
    VCard4 {
        /// Whose.
        contact: BareJid,
    },
    /// A step of publishing the person's own profile.
    Publish(Publish),
    /// Up to where the account's other devices have read (XEP-0490).
    Displayed,
    /// Publishing up to where the owner has read (XEP-0490).
    PublishDisplayed {
        /// In the chat with whom.
        contact: BareJid,
        /// The archive's id of the message.
        id: String,
    },
    /// The JID behind an e-mail address (the Messenger service).
    JidLookup {
        /// The e-mail address.
        email: String,
    },
}

/// A step of publishing the person's own profile to their account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publish {
    /// The nickname (XEP-0172); `None` takes it back.
    Nick(Option<String>),
    /// The bytes of the picture (XEP-0084).
    AvatarData {
        /// The `mxc://` URI that it is of.
        url: String,
        /// The picture.
        own: OwnPicture,
    },
    /// What the picture is, once its bytes are there.
    AvatarMetadata {
        /// The `mxc://` URI that it is of.
        url: String,
        /// The picture.
        own: OwnPicture,
    },
    /// There is no picture any more.
    NoAvatar,
    /// The vCard as it is (XEP-0054), to be given this nickname.
    ReadVCard(Option<String>),
    /// The vCard as it is to be.
    WriteVCard {
        /// The nickname in it.
        name: Option<String>,
        /// All of it, as XML.
        card: String,
    },
}

/// A picture of the person's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPicture {
    /// What it is, by its content. XEP-0084 wants a PNG; what the homeserver gives is not changed, as today's clients do.
    pub mime: &'static str,
    /// Lower-case hex SHA-1.
    pub hash: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}
