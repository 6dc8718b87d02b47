//! Kills processes and starts them again, while others go on.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use halligan_testkit::process::Child;

use super::plan::{Blow, Moment, Role, Step};
use crate::place::Place;

struct Processes {
    children: Vec<(Role, Child)>,
    kills: u64,
}

/// What runs, and the blows that are on their way.
pub struct Striker {
    place: Arc<Place>,
    processes: Arc<Mutex<Processes>>,
    on_their_way: Vec<JoinHandle<Result<()>>>,
}

const fn name(role: Role) -> &'static str {
    match role {
        Role::Control => "server",
        Role::Gateway => "gateway",
        Role::Connector => "connector",
    }
}

impl Striker {
    /// Takes the three processes of a place over.
    pub fn new(mut place: Place) -> Result<Self> {
        let children = [
            (Role::Control, place.server.take()),
            (Role::Gateway, place.gateway.take()),
            (Role::Connector, place.connector.take()),
        ];
        let children = children
            .into_iter()
            .map(|(role, child)| Ok((role, child.with_context(|| format!("{role:?} does not run"))?)))
            .collect::<Result<Vec<_>>>()?;
        let processes = Arc::new(Mutex::new(Processes { children, kills: 0 }));
        Ok(Self { place: Arc::new(place), processes, on_their_way: Vec::new() })
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Processes killed so far.
    pub fn kills(&self) -> u64 {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner).kills
    }

    /// The blows of a step that fall before or during it. Returns when those before it have fallen.
    pub fn begin(&mut self, step: Step, blows: &[Blow]) {
        for blow in blows.iter().filter(|blow| blow.step == step) {
            match blow.moment {
                Moment::Before => self.strike(*blow, Duration::ZERO, true),
                Moment::During(after) => self.strike(*blow, Duration::from_millis(after), false),
                Moment::After => {}
            }
        }
    }

    /// The blows that fall as soon as it is done.
    pub fn end(&mut self, step: Step, blows: &[Blow]) {
        for blow in blows.iter().filter(|blow| blow.step == step && blow.moment == Moment::After) {
            self.strike(*blow, Duration::ZERO, true);
        }
    }

    /// Kills after that time; with `wait` it returns once the processes are gone, not when they are back.
    fn strike(&mut self, blow: Blow, after: Duration, wait: bool) {
        println!("           {blow}");
        let (place, processes) = (Arc::clone(&self.place), Arc::clone(&self.processes));
        let (fallen, told) = mpsc::sync_channel(1);
        self.on_their_way.push(std::thread::spawn(move || {
            std::thread::sleep(after);
            // Held until they are back: another blow finds them running.
            let mut held = processes.lock().unwrap_or_else(PoisonError::into_inner);
            for (role, child) in &mut held.children {
                if blow.victims.contains(role) {
                    child.kill().with_context(|| format!("{role:?} had ended by itself"))?;
                }
            }
            held.kills += blow.victims.len() as u64;
            fallen.send(()).ok();
            std::thread::sleep(Duration::from_millis(blow.down));
            for (role, child) in &mut held.children {
                if blow.victims.contains(role) {
                    *child =
                        Child::start(name(*role), &mut place.command(name(*role))?, place.folder.path())?;
                }
            }
            Ok(())
        }));
        if wait {
            told.recv().ok();
        }
    }

    /// Waits until everything runs again and control takes work. Fails if anything ended by itself.
    pub async fn settle(&mut self) -> Result<()> {
        for blow in self.on_their_way.drain(..) {
            blow.join().map_err(|_| anyhow::anyhow!("a blow panicked"))??;
        }
        self.place.ready().await?;
        let mut held = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        for (role, child) in &mut held.children {
            if let Some(status) = child.exit() {
                bail!("{role:?} ended by itself ({status})");
            }
        }
        Ok(())
    }
}

impl Drop for Striker {
    /// A blow that is still on its way would start processes that nobody ends.
    fn drop(&mut self) {
        for blow in self.on_their_way.drain(..) {
            blow.join().ok();
        }
    }
}

/// Milliseconds since, for messages.
pub fn since(begun: Instant) -> u128 {
    begun.elapsed().as_millis()
}
