//! Everybody who takes part, enrolled and signed in.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::people::{Person, find};
use crate::place::Place;

/// Everybody by name.
pub struct Cast(BTreeMap<String, Person>);

impl Cast {
    pub fn person(&self, name: &str) -> Result<&Person> {
        self.0.get(name).with_context(|| format!("{name} is not in the cast"))
    }
    pub fn person_mut(&mut self, name: &str) -> Result<&mut Person> {
        self.0.get_mut(name).with_context(|| format!("{name} is not in the cast"))
    }
}

/// Who takes part in the story, beside the administrator.
pub const TEAM: [&str; 10] =
    ["anna", "ben", "carla", "dmitri", "mara", "sofia", "ava", "paula", "ines", "casper"];

/// The first administrator enrols, applies the catalog and invites the others; each of them enrols and signs in.
pub async fn enrol_everybody(place: &Place, catalog: &Path, team: &[&str]) -> Result<Cast> {
    let secret = fs::read_to_string(place.folder.path().join("state").join("first-enrolment"))
        .context("the server left no enrolment for the first administrator")?;
    let mut cleo = Person::enrol(place, "cleo", secret.trim()).await.context("cleo could not enrol")?;
    let catalog = catalog.display().to_string();
    cleo.run(&["catalog", "check", &catalog])?.ok().context("the catalog does not pass its check")?;
    cleo.run_with_code(&["catalog", "apply", &catalog]).await?.ok().context("the catalog was not applied")?;
    let mut cast = BTreeMap::new();
    let mut secrets = Vec::new();
    for name in team {
        let invited = cleo
            .run(&["people", "invite", name])?
            .ok()
            .with_context(|| format!("{name} could not be invited"))?;
        let secret = find(&invited.json()?, "secret").context("the invitation has no secret")?;
        secrets.push(((*name).to_owned(), secret));
    }
    for (name, secret) in secrets {
        let person =
            Person::enrol(place, &name, &secret).await.with_context(|| format!("{name} could not enrol"))?;
        cast.insert(name, person);
    }
    cast.insert("cleo".to_owned(), cleo);
    Ok(Cast(cast))
}
