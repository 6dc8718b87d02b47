//! What was written once is read for ever. One file holds one event (or document) as some version wrote it; files are
//! added and never changed. A new kind of event without a file fails; `HALLIGAN_WRITE_GOLDEN=1` writes what is missing.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may fail loudly")]
#![expect(clippy::disallowed_methods, reason = "writing is asked for by the person at the keyboard")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use halligan_core::change::ProposedChange;
use halligan_core::event::Event;
use halligan_core::grant::Grant;
use halligan_core::incident::Incident;
use halligan_core::request::Request;
use halligan_core::review::Review;
use halligan_core::session::Session;
use halligan_core::standing::Standing;
use halligan_core::testing::simulator::{Mutation, Simulation};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(kind)
}

fn files(kind: &str) -> BTreeMap<String, Value> {
    let entries = fs::read_dir(folder(kind)).unwrap();
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, serde_json::from_slice(&fs::read(&path).unwrap()).unwrap())
        })
        .collect()
}

/// Everything that stands in `old` stands in `new` as well; new fields may have come.
fn keeps(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            old.iter().all(|(key, value)| new.get(key).is_some_and(|found| keeps(value, found)))
        }
        (Value::Array(old), Value::Array(new)) => {
            old.len() == new.len() && old.iter().zip(new).all(|(old, new)| keeps(old, new))
        }
        _ => old == new,
    }
}

/// Reads it, writes it, and finds everything again.
fn comes_back<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(name: &str, file: &Value) -> T {
    let read: T = serde_json::from_value(file.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    let written = serde_json::to_value(&read).unwrap();
    assert!(keeps(file, &written), "{name} lost something:\n{file:#}\n{written:#}");
    assert_eq!(serde_json::from_value::<T>(written).unwrap(), read, "{name}");
    read
}

#[test]
fn every_event_that_was_ever_written_is_read() {
    write_what_is_missing();
    let files = files("events");
    for name in Event::NAMES {
        assert!(files.keys().any(|file| file == name), "{name} has no golden file");
    }
    for (file, value) in files {
        let event: Event = comes_back(&file, &value);
        assert!(file.starts_with(event.name()), "{file} holds a {}", event.name());
    }
}

#[test]
fn every_document_that_was_ever_written_is_read() {
    write_what_is_missing();
    for (file, value) in files("documents") {
        match file.split('-').next() {
            Some("request") => drop(comes_back::<Request>(&file, &value)),
            Some("grant") => drop(comes_back::<Grant>(&file, &value)),
            Some("session") => drop(comes_back::<Session>(&file, &value)),
            Some("incident") => drop(comes_back::<Incident>(&file, &value)),
            Some("review") => drop(comes_back::<Review>(&file, &value)),
            Some("standing") => drop(comes_back::<Standing>(&file, &value)),
            Some("change") => drop(comes_back::<ProposedChange>(&file, &value)),
            _ => panic!("{file} is no kind of document"),
        }
    }
    assert!(files("documents").len() >= 7);
}

fn write_what_is_missing() {
    if std::env::var("HALLIGAN_WRITE_GOLDEN").is_err() {
        return;
    }
    let put = |kind: &str, name: &str, value: &dyn Fn() -> Value| {
        let path = folder(kind).join(format!("{name}.json"));
        if !path.exists() {
            fs::create_dir_all(folder(kind)).unwrap();
            fs::write(path, format!("{:#}\n", value())).unwrap();
        }
    };
    for seed in 0..300 {
        let mut simulation = Simulation::new(seed, Mutation::None);
        for _ in 0..250 {
            simulation.step().unwrap();
        }
        for event in simulation.history() {
            put("events", event.name(), &|| serde_json::to_value(event).unwrap());
        }
        // Documents with much in them, so that much is held.
        let world = &simulation.store.world;
        macro_rules! richest {
            ($($map:ident $name:literal $least:literal),*) => {$(
                if let Some(found) = world.$map.values().map(|found| serde_json::to_value(found).unwrap())
                    .find(|found| found.to_string().len() >= $least) {
                    put("documents", $name, &|| found.clone());
                }
            )*};
        }
        richest!(requests "request" 1500, grants "grant" 1100, sessions "session" 700, incidents "incident" 1000,
            reviews "review" 500, standings "standing" 600, changes "change" 300);
    }
}
