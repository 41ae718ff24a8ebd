//! The service itself: start it, drive its scripted contacts, ask what it saw.
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::archive::Direction;
use super::chat::{Fate, Stored};
use super::journal::{Inbox, Journal};
use super::persona::{Persona, Personas};
use super::presence::Presence;
use super::roster::Item;
use super::settings::{MAX_CONNECTIONS, Settings, Status, Switches};
use super::tls::Tls;
use super::tokens::Grant;
use super::world::{Account, ChatState, Counters, Out, SCRIPTED, ServiceError, World};
use super::{oauth, session};

/// What all connections share.
pub struct Hub {
    /// What was fixed at the start.
    pub settings: Settings,
    /// The certificates.
    pub tls: Tls,
    /// Told when a switch changes.
    pub switched: watch::Sender<()>,
    journal: Arc<Journal>,
    world: Mutex<World>,
}

impl Hub {
    /// The state. It is never held across an await.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running service. It ends when the last clone is dropped. Accounts are named by e-mail address or bare JID.
#[derive(Clone)]
pub struct Service {
    hub: Arc<Hub>,
    xmpp: SocketAddr,
    gateway: SocketAddr,
    http: SocketAddr,
    stop: CancellationToken,
    personas: Arc<Personas>,
    guard: Option<Arc<DropGuard>>,
}

impl Service {
    /// Binds the sockets and serves.
    pub async fn start(settings: Settings) -> Result<Self, ServiceError> {
        let tls = Tls::new(&settings)?;
        let world = World::new(settings.domain.clone(), settings.switches.clone());
        let front = TcpListener::bind(settings.xmpp).await?;
        let back = TcpListener::bind(settings.gateway).await?;
        let web = TcpListener::bind(settings.http).await?;
        let (xmpp, gateway, http) = (front.local_addr()?, back.local_addr()?, web.local_addr()?);
        let journal = Arc::clone(&world.journal);
        let world = Mutex::new(world);
        let hub = Arc::new(Hub { settings, tls, switched: watch::Sender::new(()), journal, world });
        let stop = CancellationToken::new();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        for (listener, at_gateway) in [(front, false), (back, true)] {
            let (hub, stop, places) = (Arc::clone(&hub), stop.clone(), Arc::clone(&places));
            tokio::spawn(async move {
                tokio::select! {
                    () = accept(hub, listener, at_gateway, gateway, places, stop.clone()) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
        let router = oauth::router(Arc::clone(&hub));
        let stopped = stop.clone().cancelled_owned();
        // It ends with the token; a failing listener shows in whoever connects to it.
        tokio::spawn(async move { axum::serve(web, router).with_graceful_shutdown(stopped).await });
        let guard = Some(Arc::new(stop.clone().drop_guard()));
        Ok(Self { hub, xmpp, gateway, http, stop, personas: Arc::default(), guard })
    }

    /// Where clients connect.
    pub fn xmpp_addr(&self) -> SocketAddr {
        self.xmpp
    }

    /// Where redirected clients connect.
    pub fn gateway_addr(&self) -> SocketAddr {
        self.gateway
    }

    /// The base URL of the OAuth endpoints, without a slash at its end.
    pub fn http_base(&self) -> String {
        format!("http://{}", self.http)
    }

    /// The authorize endpoint.
    pub fn authorize_url(&self) -> String {
        self.http_base() + "/oauth20_authorize.srf"
    }

    /// The token endpoint.
    pub fn token_url(&self) -> String {
        self.http_base() + "/oauth20_token.srf"
    }

    /// The desktop redirect.
    pub fn desktop_url(&self) -> String {
        self.http_base() + "/oauth20_desktop.srf"
    }

    /// The certificate authority, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.hub.tls.ca_pem
    }

    /// A handle that does not keep the service alive.
    pub fn weak(&self) -> Self {
        Self { guard: None, ..self.clone() }
    }

    /// Ends with the service.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// How the service behaves now.
    pub fn switches(&self) -> Switches {
        self.hub.world().switches.clone()
    }

    /// Changes how the service behaves, for what happens from now on.
    pub fn set(&self, change: impl FnOnce(&mut Switches)) {
        {
            let mut world = self.hub.world();
            let mut switches = world.switches.clone();
            change(&mut switches);
            world.set_switches(switches);
        }
        self.hub.switched.send_replace(());
    }

    /// A new account. It is a scripted contact until a client signs in to it.
    pub fn add_account(&self, email: &str, name: &str, password: &str) -> Result<Account, ServiceError> {
        self.hub.world().add_account(email, name, password)
    }

    /// All accounts, by JID.
    pub fn accounts(&self) -> Vec<Account> {
        self.hub.world().people.values().map(|person| person.account.clone()).collect()
    }

    /// Makes two accounts contacts of each other; `owner` calls `contact` by `name`.
    pub fn befriend(&self, owner: &str, contact: &str, name: &str) -> Result<(), ServiceError> {
        self.hub.world().befriend(owner, contact, name)
    }

    /// What `owner` has about `contact` in its roster.
    pub fn roster_item(&self, owner: &str, contact: &str) -> Result<Option<Item>, ServiceError> {
        let mut world = self.hub.world();
        let contact = world.resolve(contact)?;
        Ok(world.person(owner)?.roster.get(&contact).cloned())
    }

    /// The account's vCard; the photo is a PNG.
    pub fn set_vcard(
        &self,
        account: &str,
        nickname: &str,
        full_name: &str,
        photo: Option<Vec<u8>>,
    ) -> Result<(), ServiceError> {
        self.hub.world().person(account)?.vcard =
            super::world::Vcard { nickname: nickname.to_owned(), full_name: full_name.to_owned(), photo };
        Ok(())
    }

    /// A scripted contact's state and personal message.
    pub fn presence(&self, account: &str, status: Status, text: &str) -> Result<(), ServiceError> {
        let mut world = self.hub.world();
        let jid = world.resolve(account)?;
        world.set_stage(&jid, &Presence { status, text: text.to_owned() });
        Ok(())
    }

    /// See [`Service::presence`].
    pub fn online(&self, account: &str, text: &str) -> Result<(), ServiceError> {
        self.presence(account, Status::Online, text)
    }

    /// See [`Service::presence`].
    pub fn away(&self, account: &str, text: &str) -> Result<(), ServiceError> {
        self.presence(account, Status::Away, text)
    }

    /// See [`Service::presence`].
    pub fn busy(&self, account: &str, text: &str) -> Result<(), ServiceError> {
        self.presence(account, Status::Busy, text)
    }

    /// See [`Service::presence`].
    pub fn offline(&self, account: &str, text: &str) -> Result<(), ServiceError> {
        self.presence(account, Status::Offline, text)
    }

    /// A scripted contact writes a message.
    pub fn say(&self, from: &str, to: &str, text: &str) -> Result<Fate, ServiceError> {
        self.hub.world().say(from, to, Some(text), None)
    }

    /// A scripted contact writes a message with a chat state.
    pub fn say_with_state(&self, from: &str, to: &str, text: &str, state: ChatState) -> Result<Fate, ServiceError> {
        self.hub.world().say(from, to, Some(text), Some(state))
    }

    /// A scripted contact's chat state, without a body.
    pub fn chat_state(&self, from: &str, to: &str, state: ChatState) -> Result<Fate, ServiceError> {
        self.hub.world().say(from, to, None, Some(state))
    }

    /// Puts a message into `to`'s offline store, which its next client gets after its initial presence.
    pub fn store_offline(&self, from: &str, to: &str, text: &str, stamp: OffsetDateTime) -> Result<(), ServiceError> {
        let mut world = self.hub.world();
        let from = format!("{}/{SCRIPTED}", world.resolve(from)?);
        let to = world.resolve(to)?;
        let id = Some(format!("offline-{}", rand::random::<u32>()));
        let kept = world.store(&to, Stored { from, id, text: text.to_owned(), stamp });
        if kept { Ok(()) } else { Err(ServiceError::Full("offline store")) }
    }

    /// Puts a line into `owner`'s archive of its conversation with `contact`.
    pub fn store_archived(
        &self,
        owner: &str,
        contact: &str,
        text: &str,
        stamp: OffsetDateTime,
        direction: Direction,
    ) -> Result<(), ServiceError> {
        let mut world = self.hub.world();
        let (owner, contact) = (world.resolve(owner)?, world.resolve(contact)?);
        world.archive_line(&owner, &contact, text, stamp, direction);
        Ok(())
    }

    /// A scripted contact asks to become a contact.
    pub fn invite(&self, from: &str, to: &str) -> Result<(), ServiceError> {
        let mut world = self.hub.world();
        let (from, to) = (world.resolve(from)?, world.resolve(to)?);
        world.invite(&from, &to);
        Ok(())
    }

    /// Whether a scripted contact accepts invitations by itself while it is not offline, as it does at first.
    pub fn welcoming(&self, account: &str, welcoming: bool) -> Result<(), ServiceError> {
        self.hub.world().person(account)?.welcoming = welcoming;
        Ok(())
    }

    /// A scripted contact accepts (or declines) `asker`'s invitation.
    pub fn answer(&self, account: &str, asker: &str, accept: bool) -> Result<(), ServiceError> {
        let mut world = self.hub.world();
        let (account, asker) = (world.resolve(account)?, world.resolve(asker)?);
        if accept {
            world.subscribed(&account, &asker);
        } else {
            world.unsubscribed(&account, &asker);
        }
        Ok(())
    }

    /// Lets a scripted contact answer by itself, or no longer.
    pub fn autoreply(&self, account: &str, persona: Option<Persona>) -> Result<(), ServiceError> {
        let jid = self.hub.world().resolve(account)?;
        if let Some(persona) = &persona {
            self.presence(&jid, persona.status, &persona.text)?;
        }
        self.personas.play(&self.weak(), jid, persona);
        Ok(())
    }

    /// What happened to an account, from the beginning.
    pub fn messages_to(&self, account: &str) -> Result<Inbox, ServiceError> {
        let jid = self.hub.world().resolve(account)?;
        Ok(Inbox::new(Arc::clone(&self.hub.journal), Some(jid), 0))
    }

    /// What happens to an account from now on.
    pub fn messages_from_now(&self, account: &str) -> Result<Inbox, ServiceError> {
        let jid = self.hub.world().resolve(account)?;
        Ok(Inbox::new(Arc::clone(&self.hub.journal), Some(jid), self.hub.journal.len()))
    }

    /// Everything that happened, from the beginning.
    pub fn events(&self) -> Inbox {
        Inbox::new(Arc::clone(&self.hub.journal), None, 0)
    }

    /// Refuses the next sign-ins whatever their token.
    pub fn refuse_next_sign_ins(&self, count: u32) {
        self.set(|switches| switches.refuse_sign_ins = count);
    }

    /// Refuses refresh tokens, or takes them again.
    pub fn refuse_refresh(&self, refuse: bool) {
        self.set(|switches| switches.refuse_refresh = refuse);
    }

    /// Cuts the account's connections without a word; says how many there were.
    pub fn cut(&self, account: &str) -> Result<usize, ServiceError> {
        let mut world = self.hub.world();
        let jid = world.resolve(account)?;
        let sessions = world.sessions_of(&jid);
        for &id in &sessions {
            world.end(id, Out::Cut);
        }
        Ok(sessions.len())
    }

    /// The full JIDs of an account's clients.
    pub fn clients(&self, account: &str) -> Result<Vec<String>, ServiceError> {
        let world = self.hub.world();
        let jid = world.resolve(account)?;
        let mine = world.sessions.values().filter(|session| session.account == jid);
        Ok(mine.map(|session| session.jid.clone()).collect())
    }

    /// An access token for an account, without the web pages.
    pub fn access_token(&self, account: &str, lifetime: Duration) -> Result<String, ServiceError> {
        let mut world = self.hub.world();
        let account = world.resolve(account)?;
        let grant = Grant { account, client_id: String::new(), scope: session::SCOPE.to_owned() };
        Ok(world.tokens.access_token(grant, lifetime))
    }

    /// How often things happened in all.
    pub fn counters(&self) -> Counters {
        self.hub.world().counters
    }

    /// How often things happened to one account.
    pub fn counters_of(&self, account: &str) -> Result<Counters, ServiceError> {
        Ok(self.hub.world().person(account)?.counters)
    }
}

async fn accept(
    hub: Arc<Hub>,
    listener: TcpListener,
    at_gateway: bool,
    gateway: SocketAddr,
    places: Arc<Semaphore>,
    stop: CancellationToken,
) {
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((tcp, _)) = listener.accept().await else {
            // Out of file descriptors, or a connection that was gone before it was taken.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (hub, stop) = (Arc::clone(&hub), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = session::serve(hub, tcp, at_gateway, gateway) => {}
                () = stop.cancelled() => {}
            }
            drop(place);
        });
    }
}
