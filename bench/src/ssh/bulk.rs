//! Bytes: downloads, uploads, text on a terminal, files by sftp; and the processor time that each MiB costs in between.

use std::fs::{self, File, Permissions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::Ways;
use super::routes::{AES, CHACHA, ROUTES, Route, Routes};
use crate::figure::{Figure, Goal};
use crate::process::{seconds, seconds_of_children};
use crate::sample::Sample;
use crate::{Figures, Options};

const MIB: u64 = 1024 * 1024;
const SMALL_FILES: usize = 300;

/// Processor milliseconds a MiB, of who stands in between.
#[derive(Default)]
struct Cost {
    ours: Sample,
    hop: Sample,
}

impl Cost {
    /// Runs it, and takes what the process in between used meanwhile.
    fn of(
        &mut self,
        routes: &Routes,
        route: Route,
        mib: f64,
        run: impl FnOnce() -> Result<Duration>,
    ) -> Result<f64> {
        let used = || match route {
            Route::Direct => Ok(0.0),
            Route::Hop => seconds_of_children(routes.hop_pid()),
            Route::Ours => seconds(routes.plant_pid()),
        };
        let before = used()?;
        let spent = run()?;
        if route == Route::Hop {
            // The hop's listener counts a child when it has collected it.
            std::thread::sleep(Duration::from_millis(300));
        }
        let millis = (used()? - before) * 1_000.0 / mib;
        match route {
            Route::Direct => {}
            Route::Hop => self.hop.push(millis),
            Route::Ours => self.ours.push(millis),
        }
        Ok(mib / spent.as_secs_f64())
    }

    fn report(&self, figures: &mut Figures, name: &str, goal: f64) {
        let figure = Figure::new(format!("ssh/gateway CPU, {name}"), self.ours.median(), "ms/MiB");
        let figure = figure.range(self.ours.range()).beside("ProxyJump", self.hop.median());
        figures.add(figure.goal(Goal::AtMost(goal)));
    }
}

/// Measures.
pub fn measure(routes: &Routes, options: &Options, figures: &mut Figures) -> Result<()> {
    let big = options.size(256, 2);
    let text_mib = options.size(32, 1);
    let (noise, log, part) = (routes.file("noise"), routes.file("log"), routes.file("part"));
    write_noise(&noise, big)?;
    write_log(&log, text_mib)?;
    let part_mib = options.size(64, 1);
    write_noise(&part, part_mib)?;
    let rounds = options.size(5, 1);
    streams(routes, (rounds, big), &noise, figures)?;
    terminal(routes, (rounds, text_mib), &log, figures)?;
    files(routes, (rounds, part_mib), &part, figures)?;
    small_files(routes, rounds, figures)
}

fn streams(routes: &Routes, (rounds, mib): (u64, u64), noise: &Path, figures: &mut Figures) -> Result<()> {
    let read = format!("exec cat {}", noise.display());
    let mib = mib as f64;
    for (name, cipher) in [("download", CHACHA), ("download, aes256-gcm", AES)] {
        let (mut ways, mut cost) = (Ways::default(), Cost::default());
        for _ in 0..rounds {
            for route in ROUTES {
                let run = || routes.time(&mut routes.ssh(&[route.host(), &read], cipher));
                ways.of(route).push(cost.of(routes, route, mib, run)?);
            }
        }
        ways.report(figures, name, "MiB/s", Goal::RatioAtLeast(0.70));
        cost.report(figures, name, 4.0);
    }
    let (mut ways, mut cost) = (Ways::default(), Cost::default());
    for _ in 0..rounds {
        for route in ROUTES {
            let run =
                || routes.time_fed(&mut routes.ssh(&[route.host(), "exec cat >/dev/null"], CHACHA), noise);
            ways.of(route).push(cost.of(routes, route, mib, run)?);
        }
    }
    ways.report(figures, "upload", "MiB/s", Goal::RatioAtLeast(0.70));
    cost.report(figures, "upload", 4.0);
    Ok(())
}

fn terminal(routes: &Routes, (rounds, mib): (u64, u64), log: &Path, figures: &mut Figures) -> Result<()> {
    let show = format!("exec cat {}", log.display());
    let (mut ways, mut cost) = (Ways::default(), Cost::default());
    for _ in 0..rounds {
        for route in ROUTES {
            let run = || routes.time(&mut routes.ssh(&["-tt", route.host(), &show], CHACHA));
            ways.of(route).push(cost.of(routes, route, mib as f64, run)?);
        }
    }
    ways.report(figures, "log text on a terminal", "MiB/s", Goal::RatioAtLeast(0.90));
    cost.report(figures, "log text on a terminal", 6.0);
    Ok(())
}

fn files(routes: &Routes, (rounds, mib): (u64, u64), part: &Path, figures: &mut Figures) -> Result<()> {
    let (mut put, mut get) = (Ways::default(), Ways::default());
    for _ in 0..rounds {
        for route in ROUTES {
            let there = fresh(routes, "put")?;
            let batch = format!("put {} {}/file\n", part.display(), there.display());
            let spent = routes.time(&mut routes.sftp(route, &batch)?)?;
            ensure!(fs::metadata(there.join("file"))?.len() == mib * MIB, "the file did not arrive whole");
            put.of(route).push(mib as f64 / spent.as_secs_f64());

            let here = fresh(routes, "get")?;
            let batch = format!("get {} {}/file\n", part.display(), here.display());
            let spent = routes.time(&mut routes.sftp(route, &batch)?)?;
            ensure!(fs::metadata(here.join("file"))?.len() == mib * MIB, "the file did not arrive whole");
            get.of(route).push(mib as f64 / spent.as_secs_f64());
        }
    }
    put.report(figures, "sftp put", "MiB/s", Goal::RatioAtLeast(0.70));
    get.report(figures, "sftp get", "MiB/s", Goal::RatioAtLeast(0.70));
    Ok(())
}

fn small_files(routes: &Routes, rounds: u64, figures: &mut Figures) -> Result<()> {
    let source = fresh(routes, "small")?;
    for number in 0..SMALL_FILES {
        fs::write(source.join(format!("file-{number}")), vec![b'x'; 4096])?;
    }
    let mut ways = Ways::default();
    for _ in 0..rounds {
        for route in ROUTES {
            let there = fresh(routes, "many")?;
            let batch = format!("put -r {} {}/all\n", source.display(), there.display());
            let spent = routes.time(&mut routes.sftp(route, &batch)?)?;
            let arrived = fs::read_dir(there.join("all"))?.count();
            ensure!(arrived == SMALL_FILES, "{arrived} files arrived");
            ways.of(route).push(SMALL_FILES as f64 / spent.as_secs_f64());
        }
    }
    ways.report(figures, "sftp put of 300 small files", "files/s", Goal::RatioAtLeast(0.70));
    Ok(())
}

/// An empty folder that the target's account may write to.
fn fresh(routes: &Routes, name: &str) -> Result<std::path::PathBuf> {
    let path = routes.file(name);
    if path.exists() {
        fs::remove_dir_all(&path)?;
    }
    fs::create_dir(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o777))?;
    Ok(path)
}

/// Bytes that no compressor makes smaller (xorshift64).
fn write_noise(path: &Path, mib: u64) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..mib * MIB / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes())?;
    }
    finish(file, path)
}

/// Lines as a server logs them.
fn write_log(path: &Path, mib: u64) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let (mut written, mut number) = (0, 0_u64);
    while written < mib * MIB {
        number += 1;
        let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let line = format!(
            "2026-11-22T03:{:02}:{:02}.{:06}Z orders[{}]: level=info order={hash:016x} customer={} took={}us ok\n",
            number / 60 % 60,
            number % 60,
            hash % 1_000_000,
            hash % 30_000,
            hash >> 44,
            hash >> 52,
        );
        written += line.len() as u64;
        file.write_all(line.as_bytes())?;
    }
    finish(file, path)
}

fn finish(mut file: BufWriter<File>, path: &Path) -> Result<()> {
    file.flush()?;
    fs::set_permissions(path, Permissions::from_mode(0o644))?;
    Ok(())
}
