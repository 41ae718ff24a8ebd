//! Upgrades of files as people have them.

use proptest::prelude::*;

use super::*;
use crate::config::rename::RENAMES;
use crate::config::tests::{MINIMAL, load};
use crate::config::{EXAMPLE, Problem};

fn shown(fault: Fault, text: &str) -> String {
    Problem::new("config.yaml".as_ref(), text, fault).to_string()
}

fn upgraded(text: &str) -> Upgrade {
    upgrade(text, EXAMPLE, RENAMES).unwrap_or_else(|fault| panic!("{}", shown(fault, text)))
}

/// What a small file becomes with a small example.
fn small(text: &str, example: &str) -> String {
    let done = upgrade(text, example, &[]).unwrap_or_else(|fault| panic!("{}", shown(fault, text)));
    let again = upgrade(&done.text, example, &[]).unwrap();
    assert_eq!((again.text.as_str(), again.added.len()), (done.text.as_str(), 0), "it is stable");
    done.text
}

/// All that the program reads of a text.
fn meaning(text: &str) -> String {
    let shown = format!("{:#?}", load(text).unwrap_or_else(|error| panic!("{error}\n{text}")));
    // Each is read from a folder of its own.
    shown.lines().map(|line| line.rsplit_once("/./").map_or(line, |(_, name)| name)).collect::<Vec<_>>().join("\n")
}

/// Every line of the one is in the other, in order.
fn is_kept(before: &str, after: &str) -> bool {
    let mut lines = after.lines();
    before.lines().all(|line| lines.any(|other| other == line))
}

#[test]
fn the_example_itself_stays_as_it_is() {
    let done = upgraded(EXAMPLE);
    assert_eq!(done.text, EXAMPLE);
    assert!(done.added.is_empty() && done.unknown.is_empty());
}

#[test]
fn the_keys_without_a_default_are_those_that_must_be_set() {
    let outline = Outline::read(EXAMPLE).unwrap();
    let without = |path: &str| {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        let entry = outline.root.find(&path).unwrap();
        let mut lines = outline.lines.clone();
        lines.drain(entry.line..=entry.last);
        load(&lines.concat())
    };
    let mut checked = 0;
    look(&outline.root, &mut Vec::new(), &mut |path: &[String]| {
        let pattern = pattern(path);
        let named = NAMED.contains(&pattern_parent(&pattern));
        if !named {
            let needed = WITHOUT_DEFAULT.contains(&pattern.as_str());
            let text = without(&path.join("."));
            assert_eq!(text.is_err(), needed, "{pattern}: {text:?}");
            checked += 1;
        }
        true
    });
    assert!(checked > 40, "{checked}");
}

#[test]
fn whatever_is_taken_out_of_the_example_comes_back_where_it_was() {
    let outline = Outline::read(EXAMPLE).unwrap();
    let mut without = Vec::new();
    walk(&outline, &outline.root, None, &mut Vec::new(), &mut without);
    assert!(without.len() > 35, "{}", without.len());
    for (key, text) in without {
        let done = upgraded(&text);
        assert_eq!(done.text, EXAMPLE, "without {key}");
        assert_eq!(done.added, [key]);
    }
}

/// The example without each of its keys and sections that have a default.
fn walk(
    outline: &Outline<'_>,
    section: &Section,
    key: Option<&Entry>,
    path: &mut Vec<String>,
    without: &mut Vec<(String, String)>,
) {
    for entry in &section.entries {
        path.push(entry.key.clone());
        let pattern = pattern(path);
        if !WITHOUT_DEFAULT.contains(&pattern.as_str()) && !NAMED.contains(&pattern_parent(&pattern)) {
            let mut first = outline.first(section, entry, key.map(|key| key.line));
            if path.len() == 1 {
                first -= 1;
            }
            let mut lines = outline.lines.clone();
            lines.drain(first..=entry.last);
            // A section that loses its only key is empty, and gets it back all the same.
            without.push((path.join("."), lines.concat()));
        }
        if let Value::Section(inner) = &entry.value {
            walk(outline, inner, Some(entry), path, without);
        }
        path.pop();
    }
}

fn pattern_parent(pattern: &str) -> &str {
    pattern.rsplit_once('.').map_or("", |(parent, _)| parent)
}

#[test]
fn a_small_file_gets_all_that_it_left_out_and_means_the_same() {
    // Where something is new in a map in braces, nothing is changed.
    let text =
        MINIMAL.replace("{ client_id: \"0000000000000000\" }", "\n      client_id: \"0000000000000000\"").replace(
            "{ address: http://127.0.0.1:8008, domain: example.org }",
            "\n  address: http://127.0.0.1:8008\n  domain: example.org",
        );
    let done = upgraded(&text);
    assert!(is_kept(&text, &done.text), "{}", done.text);
    assert_eq!(meaning(&text), meaning(&done.text));
    assert_eq!(upgraded(&done.text).text, done.text, "it is stable");
    assert!(done.added.contains(&"portals".to_owned()), "{:?}", done.added);
    assert!(done.added.contains(&"networks.messenger.oauth.scopes".to_owned()), "{:?}", done.added);
    // Section after section, as the example has them.
    let order = |text: &str| -> Vec<String> {
        Outline::read(text).unwrap().root.entries.into_iter().map(|entry| entry.key).collect()
    };
    assert_eq!(order(&done.text), order(EXAMPLE));
    assert!(
        done.text.contains("\n# Lengths of time are written 30s, 5m, 12h or 7d; a plain number is seconds.\noutbox:\n")
    );
}

const SMALL: &str = "\
# About a.
a:
  # One.
  one: 1
  # Two,
  # on two lines.
  two: 2
  three:
    # Deep.
    deep: x

# About b.
b:
  four: [4]
";

#[test]
fn what_is_new_comes_where_the_example_has_it_with_its_comment() {
    for (text, wanted) in [
        // In the middle, at the beginning, at the end of a section; a section whole.
        (
            "a:\n  one: 7\n  three:\n    deep: y\nb:\n  four: [5]\n",
            "a:\n  one: 7\n  # Two,\n  # on two lines.\n  two: 2\n  three:\n    deep: y\nb:\n  four: [5]\n",
        ),
        (
            "# mine\na:\n  # also mine\n  two: 7 # here\n  three: {deep: y}\nb: {four: []}\n",
            "# mine\na:\n  # One.\n  one: 1\n  # also mine\n  two: 7 # here\n  three: {deep: y}\nb: {four: []}\n",
        ),
        (
            "a:\n    one: 7\n    two: 8\n    # three: off\n\n# b is next\nb:\n    four:\n    - 1\n    - 2\n",
            "a:\n    one: 7\n    two: 8\n    # three: off\n    three:\n      # Deep.\n      deep: x\n\n# b is next\nb:\n    four:\n    - 1\n    - 2\n",
        ),
        (
            "a:\n  one: 7\n  two: 8\n  three:\n    deep: y",
            "a:\n  one: 7\n  two: 8\n  three:\n    deep: y\n\n# About b.\nb:\n  four: [4]\n",
        ),
        (
            "b:\n  four: []\n",
            "# About a.\na:\n  # One.\n  one: 1\n  # Two,\n  # on two lines.\n  two: 2\n  three:\n    # Deep.\n    deep: x\n\nb:\n  four: []\n",
        ),
        // Other orders, empty sections, other line ends, documents that say so.
        (
            "b:\n  four: []\n\na:\n  three:\n  two: 1\n  one: 2\n",
            "b:\n  four: []\n\na:\n  three:\n    # Deep.\n    deep: x\n  two: 1\n  one: 2\n",
        ),
        (
            "a:\n  one: |\n    # text\n    more\n\n  two: \"x\n    y\"\n  three: {deep: }\nb:\n",
            "a:\n  one: |\n    # text\n    more\n\n  two: \"x\n    y\"\n  three: {deep: }\nb:\n  four: [4]\n",
        ),
        (
            "a:\r\n  one: 7\r\n  three:\r\n    deep: y\r\nb: {four: 1}\r\n",
            "a:\r\n  one: 7\r\n  # Two,\r\n  # on two lines.\r\n  two: 2\r\n  three:\r\n    deep: y\r\nb: {four: 1}\r\n",
        ),
        (
            "---\n\"a\":\n  'one': 7\n  two: ü\n  three: {deep: y}\n...\n",
            "---\n\"a\":\n  'one': 7\n  two: ü\n  three: {deep: y}\n\n# About b.\nb:\n  four: [4]\n...\n",
        ),
        (
            "",
            "# About a.\na:\n  # One.\n  one: 1\n  # Two,\n  # on two lines.\n  two: 2\n  three:\n    # Deep.\n    deep: x\n\n# About b.\nb:\n  four: [4]\n",
        ),
    ] {
        let done = small(text, SMALL);
        assert_eq!(done, wanted, "of {text:?}");
        assert!(is_kept(text, &done));
    }
}

#[test]
fn where_it_does_not_understand_the_file_it_says_so_and_changes_nothing() {
    for (text, line, says) in [
        ("a: {one: 1, two: 2}\nb:\n", 1, "a map in braces"),
        ("{a: {}, b: {}}\n", 1, "a map in braces"),
        ("b:\n  four: &x [1]\na:\n  one: 1\n", 2, "an anchor"),
        ("x: &x 1\na:\n  one: *x\n", 1, "an anchor"),
        ("a:\n  one: !!str 1\n", 2, "a tag"),
        ("? a\n:\n  one: 1\n", 1, "a key that does not begin its line"),
        ("a:\n  one: 1\n  two: 2\n  three: ~\nb: null\n", 4, "`~`"),
    ] {
        let fault = upgrade(text, SMALL, &[]).unwrap_err();
        let shown = shown(fault, text);
        assert!(shown.starts_with(&format!("config.yaml:{line}:")) && shown.contains(says), "{text:?}: {shown}");
    }
    // With nothing to add there is nothing to understand.
    let whole = "{a: {one: &x 1, two: *x, three: {deep: 3}}, b: {four: 4}}\n";
    assert_eq!(small(whole, SMALL), whole);
}

#[test]
fn what_was_renamed_is_moved_with_its_comment_and_value() {
    let renames = [
        Rename { since: "0.2.0", from: "a.old", to: "a.one" },
        Rename { since: "0.2.0", from: "far.away.deep", to: "a.three.deep" },
        Rename { since: "0.3.0", from: "c", to: "b" },
        Rename { since: "0.3.0", from: "networks.*.x", to: "networks.*.y.z" },
    ];
    let text = "\
far:
  # how deep
  # it is
  away:
    # inside
    deep: |
      very
       deep
a:
  # said to it
  \"old\": 7 # and here
  two: 2
c:
  # kept
  four: []
networks:
  n:
    x: 1
  m:
    profile: q
    x: [2]
";
    let done = upgrade(text, SMALL, &renames).unwrap_or_else(|fault| panic!("{}", shown(fault, text)));
    let wanted = "\
far:
  # how deep
  # it is
a:
  # said to it
  one: 7 # and here
  two: 2
  three:
    # inside
    deep: |
      very
       deep
b:
  # kept
  four: []
networks:
  n:
    y:
      z: 1
  m:
    profile: q
    y:
      z: [2]
";
    assert_eq!(done.text, wanted);
    assert_eq!(done.moved.len(), 5, "{:?}", done.moved);
    assert_eq!(upgrade(&done.text, SMALL, &renames).unwrap().text, wanted, "it is stable");

    let both = "a:\n  old: 1\n  one: 2\n";
    let shown = shown(upgrade(both, SMALL, &renames).unwrap_err(), both);
    assert!(shown.starts_with("config.yaml:2:3: `a.old`") && shown.contains("`a.one` since 0.2.0"), "{shown}");
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_and_left_where_it_is() {
    let text = EXAMPLE
        .replace("  catch_up: 500", "  catchup: 500")
        .replace("    domains: any", "    domain: any")
        .replace("files:\n", "filles:\n")
        .replace("      mode: auto", "      mode: auto\n      caFile: x");
    let done = upgraded(&text);
    assert!(is_kept(&text, &done.text));
    let faults: Vec<String> = done.unknown.into_iter().map(|fault| shown(fault, &done.text)).collect();
    for (key, nearest) in [
        ("networks.messenger.tls.caFile", "ca_file"),
        ("networks.xmpp.domain", "domains"),
        ("history.catchup", "catch_up"),
        ("filles", "files"),
    ] {
        let told = faults.iter().any(|fault| {
            fault.contains(&format!("`{key}`: not a known key"))
                && fault.contains(&format!("nearest known key: `{nearest}`"))
        });
        assert!(told, "{key}: {faults:#?}");
    }
    assert_eq!(faults.len(), 4, "{faults:#?}");
}

/// A configuration as somebody may have written it: some keys of the example left out, others set, sections in another
/// order, with comments of their own.
fn written() -> impl Strategy<Value = String> {
    let sections = Outline::read(EXAMPLE).unwrap();
    let mut blocks: Vec<(bool, Vec<String>)> = Vec::new();
    for entry in &sections.root.entries {
        let first = sections.first(&sections.root, entry, None);
        let block = sections.lines[first..=entry.last].iter().map(|line| (*line).to_owned()).collect();
        blocks.push((WITHOUT_DEFAULT.contains(&entry.key.as_str()), block));
    }
    let lines: usize = blocks.iter().map(|(_, block)| block.len()).sum();
    let count = blocks.len();
    (
        proptest::collection::vec(0_u8..10, lines),
        Just((0..count).collect::<Vec<_>>()).prop_shuffle(),
        proptest::collection::vec(0_u8..4, count),
        any::<(bool, bool)>(),
        2_usize..5,
    )
        .prop_map(move |(fates, order, whole, (shuffled, crlf), step)| {
            let mut fates = fates.into_iter();
            let mut written: Vec<String> = Vec::new();
            for (needed, block) in &blocks {
                let mut text = String::new();
                for line in block {
                    let fate = fates.next().unwrap_or(0);
                    let own = line.trim_start();
                    let indent = (line.len() - own.len()) / 2 * step;
                    let pad = " ".repeat(indent);
                    let key = own.split(':').next().unwrap_or_default();
                    let leaf = own.contains(": ") && !own.starts_with('#');
                    let must = ["address", "domain", "profile", "client_id", "\"example.org\"", "\"@admin"];
                    let keep = !leaf || must.iter().any(|must| key.starts_with(must)) || fate > 4;
                    if !keep || fate < 2 && own.starts_with('#') {
                        continue;
                    }
                    let line = match fate {
                        2 => format!("{pad}# a note: of mine\n{pad}{own}"),
                        3 if leaf => format!("{pad}{} # said {fate}\n", own.trim_end()),
                        4 => format!("{pad}{own}{pad}# after it\n"),
                        _ if ["per_second", "initial", "updates_per_second"].contains(&key) => {
                            format!("{pad}{key}: {fate}\n")
                        }
                        _ => format!("{pad}{own}"),
                    };
                    text.push_str(&line);
                }
                written.push(if *needed { text } else { format!("{text}\n") });
            }
            let order = if shuffled { order } else { (0..count).collect() };
            let text: String =
                order.into_iter().filter(|at| blocks[*at].0 || whole[*at] > 0).map(|at| written[at].as_str()).collect();
            if crlf { text.replace('\n', "\r\n") } else { text }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_upgrade_changes_what_a_file_means_or_says(text in written()) {
        // Not every file that can be written so is one: a section may have lost all of its keys but their comments.
        prop_assume!(load(&text).is_ok());
        let done = upgraded(&text);
        prop_assert_eq!(meaning(&text), meaning(&done.text));
        prop_assert!(is_kept(&text, &done.text), "of\n{}\ncame\n{}", text, done.text);
        let again = upgraded(&done.text);
        prop_assert_eq!(&again.text, &done.text);
        prop_assert!(again.added.is_empty() && done.unknown.is_empty());
        // Nothing is missing any more.
        let there = Outline::read(&done.text).unwrap();
        for key in KEYS.iter().filter(|key| !key.path.contains('*')) {
            let path: Vec<String> = key.path.split('.').map(str::to_owned).collect();
            prop_assert!(there.root.find(&path).is_some(), "{} in\n{}", key.path, done.text);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[a-z:{}\\[\\]#&*!|>'\" \n-]{0,60}") {
        if let Ok(done) = upgrade(&text, SMALL, &[]) {
            // Empty lines at the end need not stay; the line before them stays as it is, with what blanks it ends in.
            let blank = text.lines().rev().take_while(|line| line.trim().is_empty()).count();
            let said: Vec<&str> = text.lines().take(text.lines().count() - blank).collect();
            prop_assert!(is_kept(&said.join("\n"), &done.text), "of\n{}\ncame\n{}", text, done.text);
        }
    }
}
