//! The local socket by which an operator asks a running node: one JSON line there, one back. It lies in the state folder,
//! mode 0600: who can open it could read the keys beside it as well.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use halligan_link::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::task::AbortOnDropHandle;

/// A question or answer is no longer than this.
const LINE_MOST_BYTES: u64 = 1024 * 1024;
/// How long a question may take to arrive.
const QUESTION_TIME: Duration = Duration::from_secs(10);

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// How are you?
    Status {},
    /// Stop in order, as on SIGTERM.
    Stop {},
    /// Copy the store into a new file.
    Backup {
        /// An absolute path at which nothing is.
        to: PathBuf,
    },
    /// What to install at a target.
    SshdSetup {
        /// The system, as the catalog names it.
        system: String,
        /// The account.
        account: String,
    },
}

/// Answers questions.
pub trait Answers: Send + Sync + 'static {
    /// An answer, or a sentence that says why there is none.
    fn answer(&self, question: Question) -> BoxFuture<'_, anyhow::Result<Value>>;
}

/// Listens until dropped; the socket's file goes with it.
pub struct AdminSocket {
    path: PathBuf,
    _listening: AbortOnDropHandle<()>,
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl AdminSocket {
    /// Listens at `path`. The state folder is locked by us, so a socket that lies there is a dead one's.
    pub fn open(path: PathBuf, answers: Arc<dyn Answers>) -> anyhow::Result<Self> {
        let what = || format!("failed to listen at {}", path.display());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(what);
            }
            _ => {}
        }
        let listener = UnixListener::bind(&path).with_context(what)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).with_context(what)?;
        let listening = AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(serve(stream, Arc::clone(&answers)))),
                    Err(error) => {
                        tracing::warn!(%error, "failed to accept a question at the local socket");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            }
        }));
        Ok(Self { path, _listening: listening })
    }
}

async fn serve(stream: UnixStream, answers: Arc<dyn Answers>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let mut limited = (&mut stream).take(LINE_MOST_BYTES);
    let read = tokio::time::timeout(QUESTION_TIME, limited.read_line(&mut line)).await;
    if !matches!(read, Ok(Ok(1..))) {
        return;
    }
    let answer = match serde_json::from_str::<Question>(&line) {
        Ok(question) => answers.answer(question).await,
        Err(error) => Err(anyhow::anyhow!("this question is not known here: {error}")),
    };
    let answer = match answer {
        Ok(answer) => json!({ "ok": answer }),
        Err(error) => json!({ "error": format!("{error:#}") }),
    };
    // Whoever asked may have gone; nobody else waits for the answer.
    let _ = stream.write_all(format!("{answer}\n").as_bytes()).await;
}

/// Asks the node whose socket is at `path`.
pub async fn ask(path: &Path, question: &Question) -> anyhow::Result<Value> {
    let stream = UnixStream::connect(path).await.with_context(|| {
        format!(
            "failed to reach a running halligan at {}: is it running, on this folder, as this user?",
            path.display()
        )
    })?;
    let mut stream = BufReader::new(stream);
    let line = format!("{}\n", serde_json::to_string(question)?);
    stream.write_all(line.as_bytes()).await.context("failed to ask")?;
    let mut line = String::new();
    stream.take(LINE_MOST_BYTES).read_line(&mut line).await.context("failed to hear the answer")?;
    if line.is_empty() {
        bail!("it ended before it answered");
    }
    let mut answer: Value = serde_json::from_str(&line).context("failed to read the answer")?;
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        bail!("{error}");
    }
    Ok(answer.get_mut("ok").map(Value::take).unwrap_or_default())
}
