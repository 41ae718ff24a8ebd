//! What is translated, one file per concept, both directions side by side. The index:
//!
//! | file | Matrix | XMPP |
//! |---|---|---|
//! | [`message`] | `m.room.message` (`m.text`, `m.notice`, `m.emote`) | RFC 6121 section 5 `<body/>`, XEP-0245 |
//! | [`html`] | `org.matrix.custom.html` | |
//! | [`styling`] | | XEP-0393 |
//! | [`xhtml`] | | XEP-0071 |
//! | [`rich_text`] | what these three have in common | |
//! | [`markup`] | tags to text with form | tags to text with form |
//! | [`layout`] | | text with form as lines |
//! | [`reply`] | `m.in_reply_to` | XEP-0461 |
//! | [`edit`] | `m.replace` | XEP-0308 |
//! | [`retraction`] | `m.room.redaction` | XEP-0424 |
//! | [`reaction`] | `m.reaction` | XEP-0444 |
//! | [`receipt`] | `m.read` | XEP-0184, XEP-0333 |
//! | [`file`](mod@file) | `m.image`, `m.video`, `m.audio`, `m.file`, `m.sticker`, captions (MSC2530) | XEP-0066, XEP-0447, XEP-0446; in: XEP-0385, XEP-0449, XEP-0454 |
//! | [`file_name`] | `filename` | the names of files |
//! | [`upload`] | | XEP-0363 |
//! | [`preview`] | `info.thumbnail_url`, `thumbnail_info` | XEP-0264 |
//! | [`voice`] | voice messages (MSC3245) | recordings, by their names |
//! | [`bits`] | `m.image` | in: XEP-0231 |
//! | [`public_link`] | media of the homeserver | a link that the bridge serves itself |
//! | [`attention`] | an action in the room, command `nudge` | XEP-0224 |
//! | [`location`] | `m.location` | `geo:` URIs, XEP-0080 |
//! | [`encrypted`] | a notice | XEP-0380 |
//! | [`relation`] | `m.relates_to` | |
//! | [`fallback`] | | XEP-0428, XEP-0426 |
//! | [`content`] | | which of these a stanza carries |
//! | [`failure`] | a notice in reply | RFC 6120 section 8.3 error stanzas |
//! | [`status`] | `com.beeper.message_send_status`, notices in reply | |
//! | [`chat_state`] | `m.typing` | XEP-0085 |
//! | [`presence`] | `m.presence` | RFC 6121 section 4 |
//! | [`subscription`] | notices, commands `accept` and `deny` | RFC 6121 section 3, XEP-0172 |
//! | [`roster`] | ghosts and rooms | RFC 6121 section 2 |
//! | [`vcard`] | ghost profile | XEP-0054, XEP-0153 |
//! | [`avatar`] | ghost profile; the person's own profile | XEP-0084 |
//! | [`nickname`] | ghost profile; the person's own profile | XEP-0172 |
//! | [`vcard4`] | ghost profile | XEP-0292 |
//! | [`pep`] | | XEP-0163, XEP-0060 |
//! | [`idle`] | `m.presence`: `last_active_ago` | XEP-0319 |
//! | [`disappearing`] | redaction by the bridge, command `disappearing` | XEP-0466 |
//! | [`activity`] | `m.presence` | XEP-0352 |
//! | [`history`] | `?ts=` | XEP-0203, XEP-0313, XEP-0136 |
//! | [`carbon`] | events from the owner's own user (double puppeting), else from the account's own ghost | XEP-0280 |
//! | [`displayed`] | `m.read.private`, `m.fully_read` | XEP-0490 |
//! | [`discovery`] | | XEP-0030, XEP-0092, XEP-0115, XEP-0199, XEP-0202 |
//! | [`stable_id`] | | XEP-0359 |
//! | [`room_look`] | `m.room.name`, `m.room.avatar`, `m.room.topic`, functional members (MSC4171) | the contact's name, photo and address |
//! | [`space`] | `m.space`, `m.space.child` | an account |
//! | [`upgrade`] | `m.room.tombstone` | |
//! | [`blocking`] | `m.ignored_user_list`, commands `block` and `unblock` | XEP-0191 |
//! | [`favourite`] | the room tag `m.favourite` | XEP-0469 |
//! | [`notify`] | `m.push_rules` of a room | XEP-0492 |
//! | [`chats`] | | XEP-0223, where favourites and mutes of a chat are kept |
//! | [`bridge_info`] | `m.bridge`, `uk.half-shot.bridge` (MSC2346) | |
//! | [`room_features`] | `com.beeper.room_features` | |

pub mod activity;
pub mod attention;
pub mod avatar;
pub mod bits;
pub mod blocking;
pub mod bridge_info;
pub mod carbon;
pub mod chat_state;
pub mod chats;
pub mod content;
pub mod disappearing;
pub mod discovery;
pub mod displayed;
pub mod edit;
pub mod encrypted;
pub mod failure;
pub mod fallback;
pub mod favourite;
pub mod file;
pub mod file_name;
pub mod history;
pub mod html;
pub mod idle;
pub mod layout;
pub mod location;
pub mod markup;
pub mod message;
pub mod nickname;
pub mod notify;
pub mod pep;
pub mod presence;
pub mod preview;
pub mod public_link;
pub mod reaction;
pub mod receipt;
pub mod relation;
pub mod reply;
pub mod retraction;
pub mod rich_text;
pub mod room_features;
pub mod room_look;
pub mod roster;
pub mod space;
pub mod stable_id;
pub mod stanza;
pub mod status;
pub mod styling;
pub mod subscription;
pub mod upgrade;
pub mod upload;
pub mod vcard;
pub mod vcard4;
pub mod voice;
pub mod xhtml;
