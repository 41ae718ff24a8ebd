//! A store of every schema that ever was opens and is brought up; one of a schema to come is refused with a sentence.

use std::fs;
use std::io::Write;
use std::path::Path;

use messenger_bridge::store::{
    Backend, Batch, SCHEMA,
    archive_file::{export, import},
    backend::{put_schema_version, schema_version},
    memory::MemoryBackend,
    sled::SledBackend,
    tables,
    verify::verify,
};

use super::everything::{check, fill, open};

/// The exports, one for each schema, as the last version of the program with that schema wrote them. They are never
/// written anew: a store of a person is not either.
const EXPORTS: [&str; SCHEMA as usize] = [include_str!("schema-1.jsonl")];

/// Tables that came after the newest of these exports was written.
const NEWER: [&str; 23] = [
    "newcomer",
    "reaction",
    "request",
    "trouble",
    "look",
    "space",
    "successor",
    "features",
    "public_file",
    "followed",
    "blocked",
    "lists",
    "ignored",
    "chat",
    "published",
    "profile",
    "idle",
    "vanishing",
    "room_features",
    "broadcast",
    "work",
    "put_off",
    "shown",
];

#[test]
fn a_store_of_every_schema_opens_with_all_that_it_held() {
    for (file, schema) in EXPORTS.iter().zip(1..) {
        let disk = MemoryBackend::new();
        import(&mut file.as_bytes(), &mut disk.reopen(), SCHEMA, None).unwrap();
        assert_eq!(schema_version(&disk).unwrap(), Some(schema));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        import(&mut file.as_bytes(), &mut SledBackend::open(&path, [3; 16]).unwrap(), SCHEMA, None).unwrap();
        for backend in
            [Box::new(disk.reopen()) as Box<dyn Backend>, Box::new(SledBackend::open(&path, [3; 16]).unwrap())]
        {
            let mut store = open(backend);
            check(&store);
            store.commit().unwrap();
        }
        for backend in [Box::new(disk) as Box<dyn Backend>, Box::new(SledBackend::open_existing(&path).unwrap())] {
            assert_eq!(schema_version(&backend).unwrap(), Some(SCHEMA));
            let report = verify(&backend, &tables());
            assert!(report.is_sound(), "schema {schema}: {:?}", report.problems);
            check(&open(backend));
        }
    }
}

/// What this schema exports opens again with all that it held. With `SCHEMA_WRITE=1`, once, when the schema has just been
/// raised, the export is kept as `tests/store/schema-N.jsonl`.
#[test]
fn the_export_of_this_schema_opens_with_all_that_it_held() {
    let disk = MemoryBackend::new();
    let mut store = open(disk.reopen());
    fill(&mut store, 0);
    store.commit().unwrap();
    let mut file = Vec::new();
    export(&disk, &mut file).unwrap();
    let mut other = MemoryBackend::new();
    import(&mut file.as_slice(), &mut other, SCHEMA, None).unwrap();
    check(&open(other));
    if std::env::var_os("SCHEMA_WRITE").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/store/schema-{SCHEMA}.jsonl"));
        fs::File::create_new(path).unwrap().write_all(&file).unwrap();
    }
}

#[test]
fn every_table_has_a_record_in_the_export_of_this_schema() {
    let mut disk = MemoryBackend::new();
    import(&mut EXPORTS[EXPORTS.len() - 1].as_bytes(), &mut disk, SCHEMA, None).unwrap();
    let empty: Vec<&str> = tables()
        .iter()
        .filter(|table| disk.scan(table.prefix, None, 1).unwrap().is_empty())
        .map(|table| table.name)
        .collect();
    assert_eq!(empty, NEWER);
}

#[test]
fn a_store_of_a_schema_to_come_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut backend = SledBackend::open(&path, [3; 16]).unwrap();
    let mut batch = Batch::new();
    put_schema_version(&mut batch, SCHEMA + 1);
    backend.commit(&batch).unwrap();
    let mut file = Vec::new();
    export(&backend, &mut file).unwrap();
    backend.close().unwrap();

    let program = super::damage::Program::new(folder.path());
    let (code, said) = program.run(&["run"]);
    assert_eq!(code, 15, "{said}");
    assert!(said.contains(&format!("schema version {}", SCHEMA + 1)) && said.contains("newer program"), "{said}");
    let (code, said) = program.run(&["recover"]);
    assert_eq!(code, 15, "{said}");
    let mut after = Vec::new();
    export(&SledBackend::open_existing(&path).unwrap(), &mut after).unwrap();
    assert!(after == file, "it is left as it was");

    fs::write(folder.path().join("newer.jsonl"), file).unwrap();
    fs::rename(&path, folder.path().join("aside")).unwrap();
    let (code, said) = program.run(&["store", "import", "newer.jsonl"]);
    assert_eq!(code, 27, "{said}");
    assert!(said.contains(&format!("schema version {}", SCHEMA + 1)), "{said}");
}

#[test]
fn two_imports_of_one_export_use_no_id_twice() {
    let next = |entropy: Option<u64>| {
        let disk = MemoryBackend::new();
        import(&mut EXPORTS[0].as_bytes(), &mut disk.reopen(), SCHEMA, entropy).unwrap();
        let mut store = open(disk);
        check(&store);
        (store.take_debt_id().unwrap().0, store.take_stream_id().unwrap().0)
    };
    let (debt, stream) = next(None);
    assert_eq!((debt, stream), (18, 1));
    let (first, second) = (next(Some(u64::MAX)), next(Some(1 << 40)));
    for (debts, streams) in [first, second] {
        assert!(debts > 1 << 40 && streams > 1 << 40);
    }
    assert!(first.0.abs_diff(second.0) > 1 << 24);
}
