//! Reading the configuration: defaults, then the file, then the command line; each value remembers where it is from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Config;

/// Where a value is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said otherwise.
    Default,
    /// `--dev` sets it.
    Dev,
    /// The file, in this line.
    File {
        /// Which.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// The command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Dev => f.write_str("--dev"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A configuration with the origin of each value.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    /// Where each value that is no default is from, by its path, `server.listen`.
    pub origins: BTreeMap<String, Origin>,
}

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// A throw-away start: loopback, plain HTTP.
    pub dev: bool,
    /// Path, value and the flag that said so.
    pub values: Vec<(&'static str, Value, &'static str)>,
}

/// Reads the configuration. Without a file only defaults and the command line count.
///
/// # Errors
/// A sentence with file, line and advice.
pub fn load(file: Option<&Path>, overrides: &Overrides) -> anyhow::Result<Loaded> {
    let mut origins = BTreeMap::new();
    let mut whole = serde_json::to_value(Config::default())?;
    if overrides.dev {
        for (path, value) in dev() {
            put(&mut whole, path, value);
            origins.insert(path.to_owned(), Origin::Dev);
        }
    }
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("failed to read the configuration {}", path.display()))?;
        let parsed = read(path, &text)?;
        let values = serde_json::to_value(&parsed)?;
        let table = DeTable::parse(&text).map_err(|error| complain(path, &text, &error))?;
        let mut lines = BTreeMap::new();
        lines_of(table.get_ref(), "", &text, &mut lines);
        for (key, line) in lines {
            if let Some(value) = get(&values, &key) {
                put(&mut whole, &key, value.clone());
            }
            origins.insert(key, Origin::File { path: path.to_owned(), line });
        }
    }
    for (path, value, flag) in &overrides.values {
        put(&mut whole, path, value.clone());
        origins.insert((*path).to_owned(), Origin::Flag(flag));
    }
    let mut config: Config =
        serde_json::from_value(whole).context("failed to put the configuration together")?;
    if let Some(folder) = file.and_then(Path::parent) {
        config.resolve(folder);
    }
    let loaded = Loaded { config, origins };
    let wrong = loaded.config.check();
    if !wrong.is_empty() {
        let lines =
            wrong.into_iter().map(|(key, say)| format!("  {} = … ({}): {say}", key, loaded.origin(key)));
        bail!("this configuration cannot work:\n{}", lines.collect::<Vec<_>>().join("\n"));
    }
    Ok(loaded)
}

impl Loaded {
    /// Where a value is from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// Every value with its path and origin, in order.
    pub fn all(&self) -> anyhow::Result<Vec<(String, Value, Origin)>> {
        let mut out = Vec::new();
        flatten(&serde_json::to_value(&self.config)?, "", &mut out);
        Ok(out
            .into_iter()
            .map(|(key, value)| {
                let origin = self.origin(&key);
                (key, value, origin)
            })
            .collect())
    }
}

/// What `--dev` means.
fn dev() -> Vec<(&'static str, Value)> {
    vec![
        ("server.listen", Value::from("127.0.0.1:7300")),
        ("server.plain_http", Value::from(true)),
        ("gateway.listen", Value::from("127.0.0.1:2222")),
        ("gateway.postgres_listen", Value::from("127.0.0.1:0")),
        ("ledger.origin", Value::from("localhost/halligan/dev")),
    ]
}

fn read(path: &Path, text: &str) -> anyhow::Result<Config> {
    toml::from_str(text).map_err(|error| complain(path, text, &error))
}

/// A parser's complaint with place and advice.
fn complain(path: &Path, text: &str, error: &toml::de::Error) -> anyhow::Error {
    let start = error.span().map_or(0, |span| span.start);
    let (line, column) = place(text, start);
    let said = error.message().lines().collect::<Vec<_>>().join(" ");
    let shown = text.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim_end();
    let advice = advice(&said).map(|advice| format!("\n  = {advice}")).unwrap_or_default();
    let said = said.split(", expected").next().unwrap_or(&said);
    let said = said.replace("unknown field", "unknown key");
    anyhow::anyhow!("{}:{line}:{column}: {said}\n  | {shown}{advice}", path.display())
}

/// For an unknown key: the nearest known one, and all of them.
fn advice(said: &str) -> Option<String> {
    let mut words = said.split('`').skip(1).step_by(2);
    if !said.starts_with("unknown field") {
        return None;
    }
    let wrong = words.next()?;
    let known: Vec<&str> = words.collect();
    let near = known.iter().map(|word| (distance(wrong, word), *word)).min();
    let near = near.filter(|(distance, word)| *distance <= 2 || *distance * 3 <= word.len());
    let first = near.map(|(_, word)| format!("did you mean `{word}`? ")).unwrap_or_default();
    Some(format!("{first}known here: {}", known.join(", ")))
}

/// Edits between two words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((y, above), before) in b.iter().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or(0);
            next.push((before + usize::from(x != *y)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// Line and column, from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
    (line, column)
}

fn lines_of(table: &DeTable<'_>, prefix: &str, text: &str, out: &mut BTreeMap<String, usize>) {
    for (key, value) in table {
        let path =
            if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        match Spanned::get_ref(value) {
            DeValue::Table(inner) => lines_of(inner, &path, text, out),
            _ => {
                out.insert(path, place(text, key.span().start).0);
            }
        }
    }
}

fn get<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, key| value.get(key))
}

fn put(value: &mut Value, path: &str, new: Value) {
    match path.split_once('.') {
        Some((key, rest)) => {
            if let Value::Object(map) = value {
                let inner = map.entry(key).or_insert(Value::Null);
                if !inner.is_object() {
                    *inner = Value::Object(Map::new());
                }
                put(inner, rest, new);
            }
        }
        None => {
            if let Value::Object(map) = value {
                map.insert(path.to_owned(), new);
            }
        }
    }
}

fn flatten(value: &Value, prefix: &str, out: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(value, &path, out);
            }
        }
        other => out.push((prefix.to_owned(), other.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("halligan.toml");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn an_unknown_key_is_refused_with_place_and_advice() {
        let (_folder, path) =
            write("[server]\nname = \"a\"\n\n[gateway]\nlisten = \"0.0.0.0:22\"\nlissten_link = \"x\"\n");
        let said = load(Some(&path), &Overrides::default()).unwrap_err().to_string();
        assert!(said.contains("halligan.toml:6:1: unknown key `lissten_link`"), "{said}");
        assert!(said.contains("known here: enabled, name, listen, public_address, link_listen"), "{said}");
        let (_folder, path) = write("[sever]\nname = \"a\"\n");
        let said = load(Some(&path), &Overrides::default()).unwrap_err().to_string();
        assert!(said.contains(":1:") && said.contains("did you mean `server`?"), "{said}");
    }

    #[test]
    fn each_value_knows_where_it_is_from() {
        let (_folder, path) = write(
            "[server]\nlisten = \"127.0.0.1:1\"\nfolder = \"state\"\n[connector.krl]\npath = \"/krl\"\n",
        );
        let overrides = Overrides {
            dev: true,
            values: vec![("gateway.listen", Value::from("127.0.0.1:2"), "--ssh-listen")],
        };
        let loaded = load(Some(&path), &overrides).unwrap();
        let from = |key: &str| loaded.origin(key).to_string();
        assert_eq!(from("server.listen"), format!("{}:2", path.display()));
        assert_eq!(from("connector.krl.path"), format!("{}:5", path.display()));
        assert_eq!(from("server.plain_http"), "--dev");
        assert_eq!(from("gateway.listen"), "--ssh-listen");
        assert_eq!(from("limits.sessions"), "default");
        assert_eq!(loaded.config.server.listen, "127.0.0.1:1");
        assert_eq!(loaded.config.gateway.listen, "127.0.0.1:2");
        assert!(loaded.config.server.plain_http);
        assert_eq!(loaded.config.server.folder, path.parent().unwrap().join("state"), "beside the file");
        assert!(loaded.all().unwrap().iter().any(|(key, value, _)| key == "store.url" && value.is_null()));
    }

    #[test]
    fn a_section_that_is_absent_by_default_is_read_whole() {
        let (_folder, path) = write(
            "[notify]\nwebhook_secrets = { siem = \"siem.whsec\" }\n[notify.smtp]\nhost = \"mail.example.org\"\nport = 587\n\
             from = \"Halligan <halligan@example.org>\"\n",
        );
        let config = load(Some(&path), &Overrides::default()).unwrap().config;
        let smtp = config.notify.smtp.unwrap();
        assert_eq!((smtp.host.as_str(), smtp.port), ("mail.example.org", 587));
        let secret = config.notify.webhook_secrets.values().next().unwrap();
        assert_eq!(*secret, path.parent().unwrap().join("siem.whsec"));
    }

    #[test]
    fn what_cannot_work_is_said_with_its_origin() {
        let (_folder, path) =
            write("[server]\nlisten = \"0.0.0.0:80\"\nplain_http = true\n[store]\nkind = \"postgres\"\n");
        let said = load(Some(&path), &Overrides::default()).unwrap_err().to_string();
        assert!(said.contains("server.plain_http") && said.contains(":3)"), "{said}");
        assert!(said.contains("store.url"), "{said}");
        let (_folder, path) = write("[server]\nlisten = 7\n");
        let said = load(Some(&path), &Overrides::default()).unwrap_err().to_string();
        assert!(said.contains(":2:"), "{said}");
    }
}
