//! What a person wants of a chat beside what is said in it.

use serde::{Deserialize, Serialize};

/// When a chat makes itself heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notify {
    /// With every message.
    #[default]
    Always,
    /// When the person is mentioned.
    OnMention,
    /// Never.
    Never,
}

/// How a choice is kept on an account's server, one step after the other until one is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Published, in a node that is made by it and has all the options that it needs.
    Publish,
    /// The node is made first, for a server that does not know all of the options in a publication.
    Make,
    /// Published in the node that was made; its options only make sure that it is private.
    PublishMade,
}

/// What a person has chosen for a chat. The default is what holds where nothing was chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// It is a favourite.
    pub pinned: bool,
    /// When it makes itself heard.
    pub notify: Notify,
}
