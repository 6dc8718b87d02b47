//! Incidents: seen by their members and by oversight. People say `INC-7`; programs may use the id.

use halligan_core::ids::IncidentId;
use halligan_core::incident::{Incident, blockers, may_see};
use halligan_core::refusal::Refusal;
use halligan_store::{Document, Order};

use super::{View, Viewer};
use crate::documents::parse;
use crate::error::ControlError;

/// An incident with what stands around it.
#[derive(Clone, Debug)]
pub struct SeenIncident {
    /// The document.
    pub incident: Incident,
    /// What keeps it from being closed.
    pub blockers: Vec<String>,
}

impl View for SeenIncident {
    const KIND: &'static str = "incident";

    async fn see(viewer: &Viewer, document: &Document) -> Result<Option<Self>, ControlError> {
        let incident: Incident = parse(&document.key, &document.body)?;
        let entitlements = Default::default();
        let visible = may_see(&viewer.facts(&entitlements), &incident, &viewer.person);
        Ok(visible.then(|| Self { blockers: blockers(&incident), incident }))
    }
}

/// The refusal that there is no such incident, in the words of the one who asked.
pub(super) fn no_incident(text: &str) -> ControlError {
    let text: String = text.chars().take(64).flat_map(char::escape_default).collect();
    Refusal::not_found(format_args!("incident {text}")).into()
}

impl Viewer {
    /// The document that `INC-7` or an id names, seen or not.
    pub(super) async fn incident_document(&self, text: &str) -> Result<Option<Document>, ControlError> {
        let store = self.control.store();
        if let Ok(id) = text.parse::<IncidentId>() {
            return Ok(store.get(&halligan_store::DocumentKey::new("incident", id.to_string())).await?);
        }
        let number = text.strip_prefix("INC-").or_else(|| text.strip_prefix("inc-"));
        let Some(number) = number.and_then(|digits| digits.parse::<u64>().ok()) else { return Ok(None) };
        let number = number.to_string();
        let page = store.by_index("incident", "number", &number, None, 1, Order::Ascending).await?;
        Ok(page.into_iter().next())
    }

    /// The id of an incident that somebody names for a request: whoever may ask may join it, so it need not be theirs yet.
    pub async fn incident_named(&self, text: &str) -> Result<IncidentId, ControlError> {
        let Some(document) = self.incident_document(text).await? else { return Err(no_incident(text)) };
        let incident: Incident = parse(&document.key, &document.body)?;
        Ok(incident.id)
    }

    /// One incident, by `INC-7` or id.
    pub async fn incident(&self, text: &str) -> Result<SeenIncident, ControlError> {
        match self.incident_document(text).await? {
            Some(document) => SeenIncident::see(self, &document).await?.ok_or_else(|| no_incident(text)),
            None => Err(no_incident(text)),
        }
    }
}
