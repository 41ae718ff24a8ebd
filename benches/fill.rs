//! A store with logins, each of another person, for the benches that need many.

use std::path::Path;

use messenger_bridge::{
    domain::{
        BareJid, LoginId, Timestamp,
        credentials::{Credentials, Secret},
    },
    store::{
        Store,
        login::Login,
        seal::{KeyFile, Seal},
        sled::SledBackend,
    },
};

/// The homeserver's name.
pub const HOMESERVER: &str = "hs.bench";
/// The domain of all accounts.
pub const DOMAIN: &str = "xmpp.bench";

/// The owner of a login.
pub fn owner(login: u32) -> String {
    format!("@u{login}:{HOMESERVER}")
}

/// The name of its account.
pub fn account(login: u32) -> String {
    format!("a{login}")
}

/// Makes the store (`data`) and its key (`data.key`) in a folder, with so many logins to the network `xmpp`.
pub fn fill(folder: &Path, logins: u32) -> Store {
    let backend = SledBackend::open(&folder.join("data"), [1; 16]).expect("a store");
    let key = KeyFile::load_or_create(&folder.join("data.key"), [2; 32]).expect("a key");
    let mut store = Store::open(Box::new(backend), Seal::new(&key), 3).expect("a store");
    for number in 0..logins {
        let owner = ruma::UserId::parse(owner(number)).expect("an MXID");
        let account = BareJid::parse(&format!("{}@{DOMAIN}", account(number))).expect("a JID");
        let id = LoginId::derive(owner.as_str(), "xmpp", account.as_str());
        let login = Login {
            id: id.clone(),
            owner,
            network: "xmpp".to_owned(),
            account,
            resource: "bridge".to_owned(),
            made: Timestamp(1_774_000_000_000),
            suspended: None,
            archive_after: None,
            roster_version: None,
            own_name: None,
        };
        store.put_login(&login).expect("a login");
        store.put_credentials(&id, &Credentials::Password(Secret::new("secret"))).expect("credentials");
        if number % 500 == 499 {
            store.commit().expect("a commit");
        }
    }
    store.commit().expect("a commit");
    store
}
