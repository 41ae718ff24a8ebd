//! What the bridge adds to the way through a real Synapse and a real Prosody: latency, pace, order and processor time, beside the same
//! way without a bridge in the same run (`drive.py`). A few messages are part of the tests, for that it works and loses nothing;
//! `script/bench` asks for more (`SIDE_BY_SIDE=count,burst,rest`), of the release build and once its first minute is over, and reads what it prints. No test asserts a time.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::bridge::{Bridge, Management, Plan, Portal, starttls};
use super::certificates::Authority;
use super::clients::Contact;
use super::ground::{Port, repository};
use super::servers::{PASSWORD, Prosody, Synapse};

const FLOOR_TOKEN: &str = "the-floors-token";

#[test]
fn the_bridge_beside_the_same_way_without_one() {
    let asked = std::env::var("SIDE_BY_SIDE").unwrap_or_else(|_| "5,20,0".to_owned());
    let numbers: Vec<u32> = asked.split(',').map(|number| number.parse().expect("a number")).collect();
    let [count, burst, rest] = numbers[..] else { panic!("SIDE_BY_SIDE is count,burst,rest") };
    let prosody = Prosody::start("prosody", Authority::trusted());
    let networks = json!({"xmpp": {"profile": "xmpp", "domains": {Prosody::DOMAIN: starttls(prosody.reach())}}});
    let plan = Plan::new("bridge");
    let port = Port::reserve();
    let floor = json!({
        "id": "floor", "url": format!("http://127.0.0.1:{port}"), "as_token": FLOOR_TOKEN, "hs_token": "floor-hs",
        "sender_localpart": "floorbot", "rate_limited": false,
        "receive_ephemeral": true, "de.sorunome.msc2409.push_ephemeral": true,
        "namespaces": {"users": [{"exclusive": true, "regex": "@floor_.*"}]},
    });
    fs::write(plan.folder.join("floor.yaml"), floor.to_string()).expect("write its registration");
    let sections = json!({"logging": {"level": "warn", "format": "text"}});
    let bridge = Bridge::start_registered(plan, &networks, &sections, &["registration.yaml", "floor.yaml"]);
    let (alice, bob) = (prosody.account("alice"), prosody.account("bob"));
    let (carol, dave) = (prosody.account("carol"), prosody.account("dave"));
    let contact = Contact::connect(&bob);
    let phone = Contact::connect(&alice);
    phone.befriend(&contact);
    phone.leave();
    contact.leave();
    let user = bridge.synapse.user("romeo");
    let person = super::clients::Person::login(&user);
    let _management = Management::sign_in(&person, &alice.jid);
    let portal = Portal::appears(&person, &bob.jid);
    let orders = json!({
        "homeserver": bridge.synapse.address(), "person": user.id, "password": PASSWORD, "room": portal.room,
        "account": alice.jid, "contact": bob.jid, "ca": Authority::trusted().file(), "port": prosody.reach().starttls,
        "pid": bridge.pid(), "count": count, "burst": burst, "rest": rest,
        "floor": {
            "as_token": FLOOR_TOKEN, "port": port.number(), "ghost": format!("@floor_ghost:{}", Synapse::DOMAIN),
            "contact": carol.jid, "account": dave.jid,
        },
    });
    let mut drive = Command::new(repository(".tools/venv/bin/python3"))
        .arg(repository("tests/end_to_end/side_by_side/drive.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the drive");
    drive.stdin.take().expect("its input").write_all(orders.to_string().as_bytes()).expect("give its orders");
    let ended = drive.wait_with_output().expect("the end of the drive");
    let told = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{told}");
    println!("{told}");
    let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    assert_eq!(lines.len(), 2 + 3 * 4);
    for line in &lines {
        assert_eq!(line["lost"], 0, "{line}");
        // What the bridge was given in an order it must have given on in that order; what clients do is theirs.
        assert!(line["path"] != "bridge" || line["turned"].is_null() || line["turned"] == 0, "{line}");
    }
}
