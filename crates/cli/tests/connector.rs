//! What an operator types at a connector: the set-up script of a PostgreSQL server, and secrets.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its stage fails")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn connector(folder: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_halligan"))
        .arg("connector")
        .args(args)
        .arg("--folder")
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read anything.
    child.stdin.take().unwrap().write_all(input).ok();
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const SETUP: [&str; 9] = [
    "postgres-setup",
    "--database",
    "orders",
    "--group",
    "orders_readers",
    "--gateway",
    "192.0.2.5/32",
    "--connector",
    "192.0.2.6",
];

/// Every file below a folder.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(fs::read(path).unwrap()) }
    }
    found
}

#[test]
fn the_script_has_a_verifier_of_the_password_that_the_vault_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("state");
    let password = "correct horse battery staple";
    let kept = connector(&folder, &["secret", "set", "postgres"], format!("{password}\n").as_bytes());
    assert!(kept.status.success(), "{}", said(&kept));
    let sealed = files(&folder);
    assert!(sealed.len() >= 2, "a key and a secret");
    let holds = |bytes: &Vec<u8>| bytes.windows(password.len()).any(|part| part == password.as_bytes());
    assert!(!sealed.iter().any(holds), "the password lies open in the folder");
    let script = connector(&folder, &SETUP, b"");
    assert!(script.status.success(), "{}", said(&script));
    let text = String::from_utf8(script.stdout).unwrap();
    assert!(!text.contains(password));
    // The verifier in the script is that of the password: SCRAM's StoredKey, made anew from its salt.
    let verifier = text.split("'SCRAM-SHA-256$").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
    let (head, keys) = verifier.split_once('$').unwrap();
    let (iterations, salt) = head.split_once(':').unwrap();
    let made = python(
        "import sys,hashlib,hmac,base64\n\
         p,i,s=sys.argv[1:]\n\
         k=hashlib.pbkdf2_hmac('sha256',p.encode(),base64.b64decode(s),int(i))\n\
         print(base64.b64encode(hashlib.sha256(hmac.digest(k,b'Client Key','sha256')).digest()).decode())",
        &[password, iterations, salt],
    );
    assert_eq!(keys.split(':').next().unwrap(), made.trim());
    // What comes first in pg_hba.conf lets sessions in from the gateway alone.
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("-- "))
        .filter(|line| line.starts_with("host"))
        .collect();
    let sessions: Vec<&&str> = lines.iter().filter(|line| line.contains("halligan_sessions")).collect();
    assert!(sessions[0].contains("192.0.2.5/32 scram-sha-256"), "{lines:?}");
    assert!(sessions.last().unwrap().ends_with("all reject"), "{lines:?}");
}

fn python(program: &str, args: &[&str]) -> String {
    let output = Command::new("python3").args(["-c", program]).args(args).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let with = |index: usize, value: &'static str| {
        let mut args = SETUP;
        args[index] = value;
        connector(folder.path(), &args, b"")
    };
    for (output, words) in [
        (connector(folder.path(), &["secret", "set", "postgres"], b""), "empty"),
        (connector(folder.path(), &["secret", "set", "postgre"], b"x"), "write postgres"),
        (connector(folder.path(), &["secret", "set", "postgres-"], b"x"), "write postgres"),
        (connector(folder.path(), &["secret", "set", "postgres-../x"], b"x"), "write postgres"),
        (with(4, "it's"), "cannot be used as a name"),
        (with(4, "halligan_sessions"), "halligan_"),
        (with(4, "pg_execute_server_program"), "pg_"),
        (with(6, "everywhere"), "is no network"),
    ] {
        assert!(!output.status.success(), "{words}: {}", said(&output));
        assert!(said(&output).contains(words), "{words}: {}", said(&output));
    }
    let one = connector(folder.path(), &["secret", "set", "postgres-orders-db"], b"x");
    assert!(one.status.success(), "{}", said(&one));
}
