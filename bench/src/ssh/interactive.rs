//! What a person at a terminal feels: how long a connection takes, how long a key stroke takes to come back; and what a
//! terminal that nobody types into costs.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::Ways;
use super::routes::{CHACHA, ROUTES, Route, Routes, SYSTEMS};
use crate::figure::{Figure, Goal};
use crate::process::resident_kib;
use crate::sample::{Sample, millis};
use crate::{Figures, Options};

/// Connections at one time.
const AT_ONCE: usize = 8;

/// The time of `ssh HOST true`.
pub fn connect(routes: &Routes, options: &Options, figures: &mut Figures) -> Result<()> {
    let mut ways = Ways::default();
    for _ in 0..options.size(30, 2) {
        for route in ROUTES {
            ways.of(route).push(millis(routes.time(&mut routes.ssh(&[route.host(), "true"], CHACHA))?));
        }
    }
    ways.report(figures, "connect, time to `true`", "ms", Goal::RatioAtMost(1.15));
    Ok(())
}

/// How many of those a second, eight at once.
pub fn connections(routes: &Routes, options: &Options, figures: &mut Figures) -> Result<()> {
    let mut ways = Ways::default();
    let each = options.size(8, 1);
    for _ in 0..options.size(5, 1) {
        for route in ROUTES {
            let began = Instant::now();
            thread::scope(|scope| {
                let running: Vec<_> = (0..AT_ONCE)
                    .map(|_| {
                        scope.spawn(|| {
                            for _ in 0..each {
                                routes.time(&mut routes.ssh(&[route.host(), "true"], CHACHA))?;
                            }
                            anyhow::Ok(())
                        })
                    })
                    .collect();
                running
                    .into_iter()
                    .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
            })?;
            ways.of(route).push((AT_ONCE * each) as f64 / began.elapsed().as_secs_f64());
        }
    }
    ways.report(figures, "connections, eight at once", "1/s", Goal::RatioAtLeast(0.80));
    Ok(())
}

/// A client on a terminal, which says when it is there.
struct Terminal {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Terminal {
    fn open(routes: &Routes, host: &str, command: &str) -> Result<Self> {
        let mut ssh = routes.ssh(&["-tt", host, command], CHACHA);
        let mut child = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let input = child.stdin.take().context("no standard input")?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut terminal = Self { child, input, output };
        let mut line = String::new();
        terminal.output.read_line(&mut line)?;
        if line.trim() == "ready" {
            return Ok(terminal);
        }
        let _ = terminal.child.kill();
        let mut complaint = String::new();
        if let Some(mut stderr) = terminal.child.stderr.take() {
            stderr.read_to_string(&mut complaint)?;
        }
        bail!("the terminal on {host} said {line:?} and {complaint:?}")
    }

    /// Types one character and waits until it is shown.
    fn stroke(&mut self) -> Result<Duration> {
        let mut shown = [0];
        let began = Instant::now();
        self.input.write_all(b"x")?;
        self.input.flush()?;
        self.output.read_exact(&mut shown)?;
        let spent = began.elapsed();
        ensure!(shown == *b"x", "another character came back");
        Ok(spent)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// From a key stroke to its echo, made by the target's terminal.
pub fn echo(routes: &Routes, options: &Options, figures: &mut Figures) -> Result<()> {
    let mut medians = Ways::default();
    let mut slow = Ways::default();
    for _ in 0..options.size(5, 1) {
        for route in ROUTES {
            let mut terminal =
                Terminal::open(routes, route.host(), "stty -icanon; echo ready; exec cat >/dev/null")?;
            thread::sleep(Duration::from_millis(200));
            let mut sample = Sample::default();
            for _ in 0..options.size(600, 20) {
                sample.push(terminal.stroke()?.as_secs_f64() * 1e6);
                thread::sleep(Duration::from_millis(1));
            }
            medians.of(route).push(sample.median());
            slow.of(route).push(sample.percentile(99.0));
        }
    }
    medians.report(figures, "echo round trip, p50", "µs", Goal::RatioAtMost(2.5));
    let figure = Figure::new("ssh/echo round trip, p99", slow.ours.median(), "µs");
    figures.add(figure.range(slow.ours.range()).beside("direct", slow.direct.median()));
    Ok(())
}

/// What one more idle terminal costs the gateway.
pub fn idle(routes: &Routes, options: &Options, figures: &mut Figures) -> Result<()> {
    // Fewer than one person may have.
    let count: usize = options.size(40, 4);
    // The first sessions make what all share.
    let warm = (0..4)
        .map(|_| Terminal::open(routes, Route::Ours.host(), "echo ready; exec cat >/dev/null"))
        .collect::<Result<Vec<_>>>()?;
    drop(warm);
    thread::sleep(Duration::from_secs(2));
    let before = resident_kib(routes.plant_pid())?;
    let terminals = (0..count)
        .map(|number| {
            Terminal::open(routes, &format!("ours-{}", number % SYSTEMS), "echo ready; exec cat >/dev/null")
        })
        .collect::<Result<Vec<_>>>()?;
    thread::sleep(Duration::from_secs(2));
    let after = resident_kib(routes.plant_pid())?;
    drop(terminals);
    let figure = Figure::new("ssh/idle terminal, resident", (after - before) / count as f64, "KiB");
    figures.add(figure.goal(Goal::AtMost(200.0)));
    figures.add(Figure::new("ssh/all three roles in one process, resident", before / 1024.0, "MiB"));
    Ok(())
}
