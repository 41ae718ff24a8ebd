//! Watching a bridge that runs: its metrics after real messages, its log as JSON, and how much the log shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};

use super::bridge::{Bridge, Management, Portal, starttls};
use super::clients::{Contact, Person};
use super::ground::{self, Port};
use super::http;
use super::servers::{Account, PASSWORD, Prosody};

/// A person and a contact who are about to talk.
struct Pair {
    person: Person,
    contact: Contact,
    account: Account,
    portal: Portal,
    management: String,
}

/// Starts a bridge with these sections of the configuration, where everybody is an administrator, and signs somebody in.
fn start(sections: &Value) -> (Bridge, Pair) {
    let prosody = Prosody::shared();
    let mut all = json!({"permissions": {"hs.test": "admin"}});
    for (section, value) in sections.as_object().into_iter().flatten() {
        all[section] = value.clone();
    }
    let networks = json!({"xmpp": {"profile": "xmpp", "domains": {Prosody::DOMAIN: starttls(prosody.reach())}}});
    let bridge = Bridge::start_with("bridge", &networks, &all);
    let (account, other) = (prosody.account("alice"), prosody.account("bob"));
    let contact = Contact::connect(&other);
    let own = Contact::connect(&account);
    own.befriend(&contact);
    own.leave();
    let person = bridge.person("romeo");
    let management = Management::sign_in(&person, &account.jid).room().to_owned();
    let portal = Portal::appears(&person, &contact.jid);
    (bridge, Pair { person, contact, account, portal, management })
}

impl Pair {
    /// Each says something to the other. Gives the events that it is in Matrix: theirs, the person's own.
    fn talk(&self, round: &str) -> (String, String) {
        let (there, back) = (format!("whispered-words-{round}"), format!("sealed-lips-{round}"));
        self.contact.say(&self.account.jid, &there);
        let heard = self.person.hears(&self.portal.room, &there);
        let said = self.person.say(&self.portal.room, &back);
        self.contact.hears(&self.account.jid, &back);
        (heard["event_id"].as_str().expect("an event").to_owned(), said)
    }

    /// Says something to the bot and awaits an answer that holds this.
    fn ask(&self, words: &str, wanted: &str) -> String {
        let mark = self.person.mark();
        self.person.say(&self.management, words);
        let answer = self.person.expect_since(mark, &format!("the bot's answer to {words:?}"), |event| {
            event["event"] == "message"
                && event["sender"] == Bridge::BOT
                && event["body"].as_str().is_some_and(|body| body.contains(wanted))
        });
        answer["body"].as_str().unwrap_or_default().to_owned()
    }

    /// What no log and no metric may hold.
    fn secrets(&self) -> Vec<String> {
        let localpart = |jid: &str| jid.split('@').next().unwrap_or_default().to_owned();
        let words = ["whispered-words", "sealed-lips", PASSWORD].map(str::to_owned);
        words.into_iter().chain([localpart(&self.contact.jid), self.contact.jid.clone()]).collect()
    }
}

/// A metric as the text format shows it.
#[derive(Debug, Default, PartialEq)]
struct Metric {
    kind: String,
    labels: BTreeSet<String>,
    samples: Vec<(String, f64)>,
}

fn label_names(labels: &str) -> BTreeSet<String> {
    let names = labels.split(',').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name.trim().to_owned());
    names.filter(|name| name != "le").collect()
}

/// Reads the text format, strictly.
fn read(text: &str) -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            name.clone_into(&mut current);
            let known = metrics.insert(current.clone(), Metric { kind: kind.to_owned(), ..Metric::default() });
            assert!(known.is_none(), "{name} is there twice");
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').expect("a sample");
            let value = value.parse().unwrap_or_else(|error| panic!("{error}: {line}"));
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let ending = name.strip_prefix(current.as_str()).unwrap_or_else(|| panic!("{line} is of no metric"));
            let metric = metrics.get_mut(&current).expect("a type before it");
            let endings: &[&str] = if metric.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(endings.contains(&ending), "{line}");
            metric.labels.extend(label_names(labels.trim_end_matches('}')));
            metric.samples.push((series.to_owned(), value));
        }
    }
    metrics
}

fn value(metrics: &BTreeMap<String, Metric>, series: &str) -> f64 {
    let samples = metrics.values().flat_map(|metric| &metric.samples);
    let mut found = samples.filter(|(name, _)| name == series).map(|(_, value)| *value);
    found.next().unwrap_or_else(|| panic!("{series} is not there: {metrics:#?}"))
}

/// The table of docs/metrics.md: type and labels of each metric.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let page = fs::read_to_string(ground::repository("docs/metrics.md")).expect("the page");
    let table = page.split("\n## ").next().expect("the first part");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let code = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), code(cells[3])))
    })
    .collect()
}

/// The names of metrics in a text, with the labels that stand in braces behind them.
fn named(text: &str) -> Vec<(String, BTreeSet<String>)> {
    let mut found = Vec::new();
    for start in ["messenger_bridge_", "process_"] {
        for (at, _) in text.match_indices(start) {
            let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if text[..at].ends_with(word) {
                continue;
            }
            let name: String = text[at..].chars().take_while(|c| word(*c)).collect();
            let labels = text[at + name.len()..].strip_prefix('{').and_then(|rest| rest.split('}').next());
            found.push((name, label_names(&labels.unwrap_or_default().replace("=~", "=").replace("!=", "="))));
        }
    }
    found
}

/// A name as a question has it, without the ending of a histogram's series.
fn family<'a>(name: &'a str, metrics: &BTreeMap<String, Metric>) -> &'a str {
    let endings = ["_bucket", "_sum", "_count"];
    let cut = endings.iter().find_map(|ending| name.strip_suffix(ending));
    cut.filter(|cut| metrics.get(*cut).is_some_and(|metric| metric.kind == "histogram")).unwrap_or(name)
}

#[test]
fn metrics_page_and_dashboard_are_one_and_show_what_was_said_both_ways() {
    let port = Port::reserve();
    let (bridge, pair) = start(&json!({"metrics": {"listen": format!("127.0.0.1:{port}")}}));
    let scrape = || {
        let answer = http::get(port.number(), "/metrics").expect("the metrics");
        assert_eq!(answer.status, 200);
        (read(&answer.body), answer.body)
    };
    pair.talk("one");
    pair.talk("two");
    let delivered = |metrics: &BTreeMap<String, Metric>, way: &str| {
        value(metrics, &format!("messenger_bridge_messages_total{{direction=\"{way}\",outcome=\"delivered\"}}"))
    };
    let there = ground::poll(|| {
        let (metrics, _) = scrape();
        let waits = |lane: &str| value(&metrics, &format!("messenger_bridge_outbox_debts{{lane=\"{lane}\"}}"));
        delivered(&metrics, "to_matrix") >= 2.0
            && delivered(&metrics, "to_xmpp") >= 2.0
            && waits("to_matrix") + waits("to_xmpp") < 0.5
            && value(&metrics, "messenger_bridge_presence_updates_total") >= 1.0
    });
    let (metrics, text) = scrape();
    fs::write(bridge.folder().join("metrics.txt"), &text).expect("keep it for reading");
    assert!(there, "{text}");

    // What happened.
    for way in ["to_matrix", "to_xmpp"] {
        let series = |outcome| format!("messenger_bridge_messages_total{{direction=\"{way}\",outcome=\"{outcome}\"}}");
        assert!((value(&metrics, &series("accepted")) - delivered(&metrics, way)).abs() < 0.5, "{text}");
        assert!(value(&metrics, &series("refused")).abs() < 0.5);
        let count = value(&metrics, &format!("messenger_bridge_delivery_seconds_count{{direction=\"{way}\"}}"));
        assert!((count - delivered(&metrics, way)).abs() < 0.5, "{text}");
        let all =
            value(&metrics, &format!("messenger_bridge_delivery_seconds_bucket{{direction=\"{way}\",le=\"+Inf\"}}"));
        assert!((all - count).abs() < 0.5);
        assert!(value(&metrics, &format!("messenger_bridge_outbox_debts{{lane=\"{way}\"}}")).abs() < 0.5, "{text}");
    }
    let logins =
        |state: &str| value(&metrics, &format!("messenger_bridge_logins{{network=\"xmpp\",state=\"{state}\"}}"));
    assert_eq!((logins("online"), logins("signed_out")), (1.0, 0.0));
    assert!(value(&metrics, "messenger_bridge_homeserver_requests_total{endpoint=\"send\",status=\"200\"}") >= 2.0);
    for at_least in [
        ("messenger_bridge_commit_seconds_count", 5.0),
        ("messenger_bridge_batch_seconds_count", 5.0),
        ("messenger_bridge_store_bytes", 10_000.0),
        ("process_resident_memory_bytes", 5_000_000.0),
        ("process_start_time_seconds", 1_700_000_000.0),
        ("messenger_bridge_mailbox_capacity", 100.0),
        ("messenger_bridge_presence_updates_total", 1.0),
        ("messenger_bridge_presence_budget_per_second", 20.0),
    ] {
        assert!(value(&metrics, at_least.0) >= at_least.1, "{at_least:?} in {text}");
    }
    let memory = value(&metrics, "process_resident_memory_bytes");
    let stats = pair.ask("stats", "Memory:");
    assert!(stats.contains("Accounts: 1 online.") && stats.contains("2 into rooms, 2 to contacts"), "{stats}");
    assert!(memory < 2e9 && stats.contains(" MB."), "{stats}");

    // Nobody is named.
    for letter in ['@', '!', '$', ':'] {
        let shown: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && line.contains(letter)).collect();
        assert!(shown.is_empty(), "{shown:?}");
    }
    for secret in pair.secrets().iter().chain([&pair.account.jid]) {
        assert!(!text.contains(secret.as_str()), "{secret} in {text}");
    }

    // The page names each, with its type and its labels, and nothing else.
    let page = documented();
    let shown: BTreeMap<String, (String, BTreeSet<String>)> =
        metrics.iter().map(|(name, metric)| (name.clone(), (metric.kind.clone(), metric.labels.clone()))).collect();
    assert_eq!(page, shown);
    let page = fs::read_to_string(ground::repository("docs/metrics.md")).expect("the page");
    let dashboard = fs::read_to_string(ground::repository("docs/grafana.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let mut asked = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            asked.extend(named(target["expr"].as_str().expect("a question")));
        }
    }
    assert!(asked.len() > 20, "{asked:?}");
    let drawn: BTreeSet<&str> = asked.iter().map(|(name, _)| family(name, &metrics)).collect();
    let undrawn: Vec<&String> = metrics.keys().filter(|name| !drawn.contains(name.as_str())).collect();
    assert!(undrawn.is_empty(), "the dashboard shows nothing of {undrawn:?}");
    asked.extend(named(&page));
    for (name, labels) in &asked {
        let metric = metrics.get(family(name, &metrics)).unwrap_or_else(|| panic!("there is no metric {name}"));
        let unknown: Vec<&String> = labels.iter().filter(|l| *l != "job" && !metric.labels.contains(*l)).collect();
        assert!(unknown.is_empty(), "{name} has no {unknown:?}");
    }

    // It is there and nowhere else.
    assert_eq!(http::get(port.number(), "/").expect("an answer").status, 404);
    let appservice = http::get(bridge.port(), "/metrics").expect("an answer");
    assert_eq!(appservice.status, 404);
    assert!(!appservice.body.contains("messenger_bridge"));
    let posted = http::post(port.number(), "/metrics", &json!({})).expect("an answer");
    assert_eq!(posted.status, 405);

    // A port that is somebody's is told, and where to set another.
    bridge.terminate();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port.number())).expect("the port is free");
    let sentence = bridge.refuses_to_run();
    assert!(sentence.contains(&format!("cannot listen on 127.0.0.1:{port}")) && sentence.contains("metrics.listen"));
    drop(taken);
}

#[test]
fn the_log_level_changes_while_the_bridge_runs() {
    let (bridge, pair) = start(&json!({"logging": {"level": "info", "format": "text"}}));
    let logged = |since: u64, text: &str| bridge.logged_since(since, text);
    pair.talk("one");
    assert!(logged(0, "ready") && !logged(0, "DEBUG"), "at info no message is followed");

    pair.ask("set-log-level debug", "The log shows `debug`");
    let since = bridge.log_length();
    let (_, said) = pair.talk("two");
    assert!(ground::poll(|| logged(since, &said) && logged(since, "DEBUG")), "debug lines come");
    assert!(ground::poll(|| logged(since, "outcome=\"delivered\"")));

    pair.ask("set-log-level error", "The log shows `error`");
    let since = bridge.log_length();
    pair.talk("three");
    pair.ask("ping", "I am here.");
    assert_eq!(bridge.log_length(), since, "nothing is shown any more");

    // SIGHUP: the level as the file has it now, and nothing else of the file.
    let file = bridge.folder().join("config.yaml");
    let config = fs::read_to_string(&file).expect("the configuration");
    let demoted = config.replace("\"hs.test\":\"admin\"", "\"hs.test\":\"user\"");
    let changed = demoted.replace("\"level\":\"info\"", "\"level\":\"debug\"");
    assert!(config != demoted && demoted != changed, "{config}");
    fs::write(&file, &changed).expect("write it");
    bridge.signal("HUP");
    assert!(ground::poll(|| logged(since, "the log level was changed")));
    let since = bridge.log_length();
    pair.talk("four");
    assert!(ground::poll(|| logged(since, "outcome=\"delivered\"")));
    pair.ask("stats", "Memory:");

    // A file that cannot be used changes nothing and ends nothing.
    fs::write(&file, changed.replace("\"debug\"", "\"loud\"")).expect("write it");
    bridge.signal("HUP");
    assert!(ground::poll(|| logged(since, "the log level stays as it is")));
    let since = bridge.log_length();
    pair.talk("five");
    assert!(ground::poll(|| logged(since, "outcome=\"delivered\"")));
    assert!(!fs::read_to_string(bridge.folder().join("bridge.log")).expect("the log").contains("whispered-words"));
}

#[test]
fn a_message_can_be_followed_in_the_log_by_its_id_and_the_log_says_nothing_of_it() {
    let (bridge, pair) = start(&json!({"logging": {"level": "trace", "format": "json"}}));
    let (theirs, ours) = pair.talk("one");
    let log = || fs::read_to_string(bridge.folder().join("bridge.log")).expect("the log");
    let lines = || -> Vec<Value> {
        let text = log();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    };
    // The steps of one message: all lines whose span names its debt.
    let steps = |debt: &Value| -> Vec<Value> {
        lines().into_iter().filter(|line| line["span"]["name"] == "message" && line["span"]["debt"] == *debt).collect()
    };
    let words = |steps: &[Value]| -> Vec<String> {
        steps.iter().map(|step| step["message"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let over = |debt: &Value| words(&steps(debt)).last().is_some_and(|last| last == "over");

    // Out: found by the event that the person sent.
    let find = |wanted: &dyn Fn(&Value) -> bool| lines().into_iter().find(|line| wanted(line));
    let accepted = find(&|line| line["message"] == "accepted" && line["span"]["id"] == ours.as_str());
    let debt = accepted.expect("the message was accepted")["span"]["debt"].clone();
    assert!(debt.is_u64() && ground::poll(|| over(&debt)), "{:#?}", steps(&debt));
    let out = steps(&debt);
    assert_eq!(words(&out), ["accepted", "sent", "over"]);
    assert_eq!((&out[2]["outcome"], &out[0]["span"]["direction"]), (&json!("delivered"), &json!("to_xmpp")));
    assert!(out[1]["wire"].as_str().is_some_and(|wire| wire.ends_with(&format!("-{debt}"))), "{}", out[1]);

    // In: found by the event that it became.
    assert!(ground::poll(|| find(&|line| line["event"] == theirs.as_str()).is_some()));
    let became = find(&|line| line["event"] == theirs.as_str()).expect("just seen");
    let debt = became["span"]["debt"].clone();
    assert!(ground::poll(|| over(&debt)), "{:#?}", steps(&debt));
    let into = steps(&debt);
    assert_eq!(words(&into), ["accepted", "sent", "became an event", "over"]);
    assert_eq!((&into[3]["outcome"], &into[0]["span"]["direction"]), (&json!("delivered"), &json!("to_matrix")));
    assert!(into[0]["span"]["id"].as_str().is_some_and(|id| !id.is_empty()), "{}", into[0]);

    // Both are of one login, whose stream has a span of its own.
    let login = into[0]["span"]["login"].as_str().expect("a login").to_owned();
    assert_eq!(out[0]["span"]["login"], login.as_str());
    let streams: Vec<Value> = lines().into_iter().filter(|line| line["span"]["name"] == "login").collect();
    assert!(streams.iter().any(|line| line["message"] == "stream up"), "{streams:#?}");
    bridge.terminate();
    let ended = lines().into_iter().find(|line| line["message"] == "stream ended").expect("the stream's end");
    assert_eq!((&ended["span"]["name"], &ended["span"]["login"]), (&json!("login"), &json!(login)));
    assert!(ended["span"]["stream"].is_u64(), "{ended}");

    let text = log();
    for secret in pair.secrets() {
        assert!(!text.contains(&secret), "the log holds {secret}");
    }
}

#[test]
fn an_administrator_looks_after_a_running_bridge() {
    let (_bridge, pair) = start(&json!({}));
    let list = pair.ask("list-users", "with 1 account");
    assert!(list.contains(&pair.person.id) && list.contains(&format!("xmpp at {}", Prosody::DOMAIN)), "{list}");
    assert!(list.ends_with("online"), "{list}");
    let localpart = pair.account.jid.split('@').next().unwrap_or_default();
    assert!(!list.contains(localpart), "{list}");

    let mark = pair.person.mark();
    let ping = pair.ask(&format!("sudo {} ping", pair.person.id), "I am here.");
    assert!(ping.starts_with(&format!("As {}", pair.person.id)) && !ping.contains(localpart), "{ping}");
    let says = |words: &'static str| {
        move |event: &Value| event["sender"] == Bridge::BOT && event["body"].as_str().is_some_and(|b| b.contains(words))
    };
    pair.person.expect_since(mark, "word of it", says("An administrator of this bridge ran `ping` for you."));
    pair.ask("sudo @nobody:hs.test ping", "Nobody called @nobody:hs.test uses this bridge.");

    pair.ask("broadcast The bridge rests at noon.", "That would be said to 1 person");
    let mark = pair.person.mark();
    pair.ask("broadcast confirm The bridge rests at noon.", "I am saying it to 1 person.");
    pair.person.expect_since(
        mark,
        "the broadcast",
        says("The operator of this bridge says:\nThe bridge rests at noon."),
    );
    pair.person.expect_since(mark, "its result", says("Your broadcast is over: 1 person has got it."));
}
