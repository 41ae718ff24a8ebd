//! The service's own tests: a raw client over TLS for each switch, and slixmpp as a client that nobody here wrote.
use std::time::Duration;

mod bounds;
mod client;
mod control;
mod conversation;
mod http;
mod people;
mod sign_in;
mod slixmpp;
mod switches;

use client::Client;

use super::{Account, Service, Settings};

/// How long a test waits for what must come.
pub const SOON: Duration = Duration::from_secs(10);

/// A service with an account to sign in to, "me", and a scripted contact of it, "heron".
pub struct Stage {
    pub service: Service,
    pub me: Account,
    pub heron: Account,
}

impl Stage {
    pub async fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        let service = Service::start(settings).await.unwrap();
        let me = service.add_account("me@messenger.example", "Me", "secret").unwrap();
        let heron = service.add_account("heron@marsh.example", "Heron", "reeds").unwrap();
        service.befriend(&me.jid, &heron.jid, "The heron").unwrap();
        Self { service, me, heron }
    }

    pub async fn plain() -> Self {
        Self::new(|_| {}).await
    }

    /// "Me", signed in and bound.
    pub async fn client(&self) -> Client {
        Client::signed_in(&self.service, &self.me).await
    }

    /// "Me", after its initial presence has been handled.
    pub async fn available(&self) -> Client {
        let mut client = self.client().await;
        client.send("<presence/>").await;
        client.settle().await;
        client
    }
}
