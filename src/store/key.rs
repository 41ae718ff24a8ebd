//! How keys are written. A new table is a new letter here.

use crate::domain::LoginId;

/// A key in the making.
pub struct Key(Vec<u8>);

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident = $letter:literal, $text:literal;)*) => {
        /// The tables, each by the letter that its keys begin with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Table { $($(#[$doc])* $name = $letter,)* }

        /// The name of a key's table, for messages.
        pub fn table_name(key: &[u8]) -> &'static str {
            match key.first() {
                $(Some(&$letter) => $text,)*
                _ => "unknown",
            }
        }
    };
}

tables! {
    /// Which stanza an event stands for, and back.
    Binding = b'b', "binding";
    /// Contacts of a login: roster, vCard, ghost.
    Contact = b'c', "contact";
    /// The outbox.
    Debt = b'd', "debt";
    /// Events bound to stanzas, by event id.
    Event = b'e', "event";
    /// Management rooms.
    Management = b'g', "management";
    /// Stanzas that wait until history is in.
    Held = b'h', "held";
    /// Credentials, sealed.
    Credentials = b'k', "credentials";
    /// Logins.
    Login = b'l', "login";
    /// Counters and the instance id.
    Meta = b'm', "meta";
    /// What people were shown of messages that wait, and suspensions.
    Trouble = b'i', "trouble";
    /// What people wrote who have no room yet.
    Newcomer = b'n', "newcomer";
    /// Portals.
    Portal = b'o', "portal";
    /// Presence of contacts' resources.
    Presence = b'p', "presence";
    /// What the owner decided about people who are no contacts.
    Request = b'q', "request";
    /// Portals and management rooms, by room id.
    Room = b'r', "room";
    /// What clients can do beyond [`Table::Caps`], by capability hash and by contact.
    Features = b'f', "features";
    /// What the owner reacted with to messages.
    Reaction = b'x', "reaction";
    /// Sessions on XMPP streams.
    Session = b's', "session";
    /// Events of transactions that were handled.
    Transaction = b't', "transaction";
    /// Stanzas sent but not confirmed.
    Unconfirmed = b'u', "unconfirmed";
    /// What clients can do, by capability hash (XEP-0115).
    Caps = b'v', "caps";
    /// What was in a room when its portal was rebuilt.
    Recovered = b'y', "recovered";
    /// How portals' rooms look, and what of that is the person's own.
    Look = b'w', "look";
    /// Spaces of logins.
    Space = b'a', "space";
    /// Rooms that are said to replace ours.
    Successor = b'z', "successor";
    /// Files that links of the bridge's own lead to.
    PublicFile = b'T', "public_file";
    /// How far people's account data was read.
    Followed = b'A', "followed";
    /// Whom accounts block.
    Blocked = b'I', "blocked";
    /// Which lists accounts' servers keep.
    Lists = b'J', "lists";
    /// Whose ghosts owners ignore.
    Ignored = b'K', "ignored";
    /// What people have chosen for chats.
    Chat = b'L', "chat";
    /// What of people's Matrix profiles goes to their accounts.
    Published = b'O', "published";
    /// What contacts publish of themselves.
    Profile = b'P', "profile";
    /// Since when contacts' clients and people have not been active.
    Idle = b'Q', "idle";
    /// Messages that are to disappear, and what chats have agreed on.
    Vanishing = b'S', "vanishing";
    /// What rooms were told of what can be said in them.
    RoomFeatures = b'B', "room_features";
    /// What an administrator says to everybody, while it is on its way.
    Broadcast = b'G', "broadcast";
    /// Long work of logins that their owners are told of.
    Work = b'M', "work";
    /// Contacts that get no room by themselves.
    PutOff = b'N', "put_off";
    /// What a login's contacts were shown last of the person.
    Shown = b'D', "shown";
}

impl Key {
    /// A key of a table.
    pub fn of(table: Table) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(table as u8);
        Self(bytes)
    }

    /// Adds a login.
    #[must_use]
    pub fn login(mut self, login: &LoginId) -> Self {
        self.0.extend_from_slice(login.as_str().as_bytes());
        self
    }

    /// Adds text that holds no zero byte; one that does is cut there, and so can name no other row.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.0.extend(text.bytes().take_while(|b| *b != 0));
        self.0.push(0);
        self
    }

    /// Adds a number, so that numbers sort.
    #[must_use]
    pub fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Adds one byte.
    #[must_use]
    pub fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    /// The key.
    pub fn done(self) -> Vec<u8> {
        self.0
    }
}

/// The number that a key ends with.
pub fn last_number(key: &[u8]) -> u64 {
    key.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The text part that begins at `from`.
pub fn text_at(key: &[u8], from: usize) -> String {
    let part = key.get(from..).unwrap_or_default().split(|b| *b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(part).into_owned()
}
