//! Nothing lost, nothing twice, nothing out of order, whatever fails: ten rooms of one account, numbered messages both
//! ways, and faults that strike meanwhile at moments that follow from a seed.
//!
//! A short run is part of the tests. `script/faults` plays every fault for longer; it sets `FAULTS_SECONDS` (how long
//! faults strike) and `FAULTS_SEED`.
//!
//! | file | what it holds |
//! |---|---|
//! | [`fault`] | the faults, and what each does |
//! | [`load`] | what is said meanwhile |
//! | [`network`] | the contacts, on Prosody or on the Messenger service |
//! | [`tally`] | what was said against what was heard; the table |
//! | [`tcp_proxy`], [`http_proxy`] | what stands between the bridge and its servers |
//! | [`stream_errors`] | stream errors, refused resumption, wrong counts: a test of its own |
//! | [`disk`], [`clock`] | the bridge's disk and clock |

mod clock;
pub(super) mod disk;
mod fault;
mod http_proxy;
mod load;
mod network;
mod stream_errors;
mod tally;
mod tcp_proxy;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::clock::Clock;
use self::disk::Disk;
use self::fault::{Fault, Ground};
use self::http_proxy::{Hits, HttpProxy};
use self::load::{Load, Toward};
use self::network::{Network, OnMessenger, OnProsody};
use self::tally::{Finding, Strike, Tally, Wrong};
use self::tcp_proxy::TcpProxy;
use super::bridge::{Bridge, Management, Plan, Portal, starttls};
use super::certificates::Authority;
use super::clients::{Contact, Person};
use super::http;
use super::messenger::Messenger;
use super::servers::{Prosody, Reach};
use crate::simulation::Random;

/// Rooms, each with one contact.
const ROOMS: usize = 10;

/// What was written before a connection broke can be heard by so much later.
const MARGIN: Duration = Duration::from_secs(2);

/// How long faults strike, and which.
struct Run {
    seed: u64,
    /// `None`: a short run, which plays a part of the faults once each.
    lasts: Option<Duration>,
}

impl Run {
    fn from_environment() -> Self {
        let number = |name: &str| {
            std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number")))
        };
        Self { seed: number("FAULTS_SEED").unwrap_or(1), lasts: number("FAULTS_SECONDS").map(Duration::from_secs) }
    }

    /// The faults of one round, in the order in which they strike.
    fn round(&self, ground: &Ground<'_>, random: &mut Random) -> Vec<Fault> {
        let all = if self.lasts.is_some() { &Fault::ALL[..] } else { &Fault::ALL[..Fault::SHORT] };
        let mut round: Vec<Fault> = all.iter().copied().filter(|fault| fault.impossible(ground).is_none()).collect();
        // `kill -9` is what has to be survived most often: before every other fault in a long run.
        let kills = if self.lasts.is_some() { round.len() } else { 3 };
        round.extend(std::iter::repeat_n(Fault::BridgeKilled, kills));
        random.shuffle(&mut round);
        round
    }

    /// Has faults strike while everybody talks, and returns when all is well again.
    fn strike(&self, ground: &Ground<'_>, load: &Load<'_>) -> Vec<Strike> {
        let mut random = Random::new(self.seed);
        let mut strikes = Vec::new();
        loop {
            for fault in self.round(ground, &mut random) {
                // The moment is random.
                thread::sleep(Duration::from_millis(random.between(200, 1_800)));
                if self.lasts.is_some_and(|lasts| load.began.elapsed() >= lasts) {
                    return strikes;
                }
                let began = load.began.elapsed();
                eprintln!("{:>6.1} s: {fault}", began.as_secs_f64());
                fault.strike(ground, &mut random);
                strikes.push(Strike { fault, began, ended: load.began.elapsed() });
            }
            if self.lasts.is_none() {
                return strikes;
            }
        }
    }

    /// A whole run, from the first words to the table; and since when its times count.
    fn play(
        &self,
        title: &str,
        ground: &Ground<'_>,
        person: &Person,
        portals: &[Portal],
        network: &dyn Network,
    ) -> (Tally, Instant) {
        for fault in Fault::ALL {
            if let Some(why) = fault.impossible(ground) {
                eprintln!("not played: {fault}: {why}");
            }
        }
        let load = Load::new(person, portals, network);
        let poke = || poke(ground.bridge);
        load.ways().for_each(|way| load.say(way));
        assert!(tally::settle(&load, false, poke), "not even the first words of each room arrive");
        let strikes = thread::scope(|scope| {
            for (toward, seed) in Toward::BOTH.into_iter().zip([self.seed + 1, self.seed + 2]) {
                let load = &load;
                scope.spawn(move || load.talk(toward, seed));
            }
            let strikes = self.strike(ground, &load);
            load.stop();
            strikes
        });
        tally::settle(&load, false, poke);
        // Each room's last words come after everything else, so what was doubled is there by then.
        load.ways().for_each(|way| load.say(way));
        tally::settle(&load, true, poke);
        let tally = Tally::take(&load, strikes);
        let table = tally.table(&format!("{title}, seed {}", self.seed));
        println!("{table}");
        fs::write(super::ground::run_folder().join(format!("{title}.table")), table).expect("write the table");
        let log = fs::read_to_string(ground.bridge.folder().join("bridge.log")).expect("the bridge's log");
        assert!(!log.contains("panicked at"), "the bridge panicked");
        (tally, load.began)
    }
}

/// Has the homeserver try its transactions now instead of after its own pause: an administrator's or a starting bridge's
/// ping does that.
fn poke(bridge: &Bridge) {
    let registration = fs::read_to_string(bridge.folder().join("registration.yaml")).expect("the registration");
    let field = |name: &str| {
        let line = registration.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.expect("a field of the registration").trim().trim_matches('"').to_owned()
    };
    let path = format!("/_matrix/client/v1/appservice/{}/ping?access_token={}", field("id"), field("as_token"));
    // A refusal says that the bridge does not answer, which is what will be seen.
    let _ = http::post(bridge.synapse.port(), &path, &json!({}));
}

/// A bridge with its homeserver, a proxy in each direction between them, and its disk and clock.
struct House {
    to_homeserver: HttpProxy,
    to_bridge: HttpProxy,
    disk: Option<Disk>,
    clock: Option<Clock>,
    bridge: Bridge,
}

impl House {
    fn build(networks: &Value, run: &Run) -> Self {
        let mut plan = Plan::new("bridge");
        let log = |name: &str| plan.folder.join(name);
        let to_homeserver =
            HttpProxy::start(plan.synapse.number(), Hits::Everything, run.seed, &log("to-homeserver.log"));
        let to_bridge = HttpProxy::start(plan.port.number(), Hits::Transactions, run.seed, &log("to-bridge.log"));
        (plan.homeserver, plan.appservice) = (to_homeserver.port(), to_bridge.port());
        let data = plan.folder.join("data");
        fs::create_dir(&data).expect("create the store's folder");
        let disk = Disk::mount(&data);
        let clock = run.lasts.and_then(|_| Clock::new(&plan.folder));
        plan.runner = disk.iter().flat_map(|disk| disk.runner(&plan.folder)).collect();
        plan.runner.extend(clock.iter().flat_map(Clock::runner));
        let bridge = Bridge::start_as_planned(plan, networks, &json!({}));
        Self { to_homeserver, to_bridge, disk, clock, bridge }
    }

    fn ground<'a>(&'a self, stream: &'a TcpProxy, server: Option<&'a Prosody>) -> Ground<'a> {
        Ground {
            bridge: &self.bridge,
            stream,
            to_homeserver: &self.to_homeserver,
            to_bridge: &self.to_bridge,
            disk: self.disk.as_ref(),
            clock: self.clock.as_ref(),
            server,
        }
    }
}

#[test]
fn on_prosody_every_message_arrives_once_and_in_order_whatever_fails() {
    let run = Run::from_environment();
    let server = Prosody::start("prosody", Authority::trusted());
    let stream = TcpProxy::start(server.reach().starttls);
    let account = server.account("alice");
    let accounts: Vec<_> = (0..ROOMS).map(|_| server.account("contact")).collect();
    let contacts: Vec<Contact> = thread::scope(|scope| {
        let starting: Vec<_> = accounts.iter().map(|account| scope.spawn(|| Contact::stay(account))).collect();
        starting.into_iter().map(|contact| contact.join().expect("a contact")).collect()
    });
    let alice = Contact::connect(&account);
    for contact in &contacts {
        alice.befriend(contact);
    }
    alice.leave();
    let reach = Reach { starttls: stream.port(), ..server.reach() };
    let networks = json!({"xmpp": {"profile": "xmpp", "domains": {Prosody::DOMAIN: starttls(reach)}}});
    let house = House::build(&networks, &run);
    let person = house.bridge.person("romeo");
    Management::sign_in(&person, &account.jid);
    let portals: Vec<Portal> = contacts.iter().map(|contact| Portal::appears(&person, &contact.jid)).collect();

    let network = OnProsody { server, account, contacts };
    let ground = house.ground(&stream, Some(&network.server));
    let (tally, _) = run.play("Prosody", &ground, &person, &portals, &network);
    assert_eq!(tally.ours().count(), 0, "{}", tally.table("Prosody"));
}

#[test]
fn on_the_messenger_service_nothing_is_lost_that_was_handed_over() {
    let run = Run::from_environment();
    let messenger = Messenger::start(|_| {});
    let stream = TcpProxy::start(messenger.service.xmpp_addr().port());
    // All through the proxy, not to the gateway behind it.
    messenger.service.set(|switches| switches.redirect = crate::messenger_service::Redirect::Never);
    let contacts: Vec<_> = (0..ROOMS).map(|number| messenger.contact(&format!("contact{number}"))).collect();
    let mut networks = messenger.networks(None);
    networks["messenger"]["address"] = json!(format!("127.0.0.1:{}", stream.port()));
    let house = House::build(&networks, &run);
    let person = house.bridge.person("romeo");
    messenger.sign_in(&Management::open(&person));
    let portals: Vec<Portal> =
        contacts.iter().map(|contact| Portal::appears_on(&person, &contact.jid, "messenger")).collect();

    let network = {
        let _context = messenger.runtime.enter();
        OnMessenger::new(messenger.service.clone(), messenger.me.clone(), contacts)
    };
    let ground = house.ground(&stream, None);
    let (tally, began) = run.play("Messenger service", &ground, &person, &portals, &network);
    let table = tally.table("Messenger service");
    // What is sent again was heard before a break, or as it came, and again after it.
    let again = |finding: &Finding| {
        let heard = network.heard_at(finding.way.room, &finding.way.text(finding.number));
        heard.windows(2).all(|pair| tally.breaks_between((pair[0] - began).saturating_sub(MARGIN), pair[1] - began))
    };
    for finding in tally.ours() {
        // What was in the socket can be lost with it, and what was not confirmed can be sent twice: there is no archive of
        // everything and no stream management.
        let forgiven = match (finding.wrong, finding.way.toward) {
            (Wrong::Lost, Toward::Matrix) => tally.breaks_after(finding.said),
            (Wrong::Doubled, Toward::Network) => again(finding),
            _ => false,
        };
        assert!(forgiven, "{finding:?}\n{table}");
        let told = if finding.wrong == Wrong::Doubled { "delivered twice" } else { "may be missing" };
        let said = person.heard(&portals[finding.way.room].room);
        assert!(said.iter().any(|text| text.contains(told)), "nobody was told: {finding:?}\n{table}");
    }
}
