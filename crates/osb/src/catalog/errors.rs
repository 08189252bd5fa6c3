//! This module collects what is wrong with a catalog, in the form that users of Cloud Foundry know.

/// The errors of a catalog as a whole, and of its offerings and plans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogErrors {
    messages: Vec<String>,
    offerings: Vec<OfferingErrors>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OfferingErrors {
    pub name: String,
    pub messages: Vec<String>,
    pub plans: Vec<PlanErrors>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PlanErrors {
    pub name: String,
    pub messages: Vec<String>,
    pub schemas: Vec<String>,
}

/// The number of characters of all errors together that are kept.
const LONGEST: usize = 10_000;

impl PlanErrors {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.schemas.is_empty()
    }
}

impl OfferingErrors {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.plans.is_empty()
    }
}

impl CatalogErrors {
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.offerings.is_empty()
    }

    /// Adds an error of the catalog as a whole.
    pub fn add(&mut self, message: impl Into<String>) {
        self.messages.push(message.into());
    }

    /// Adds an error of one offering.
    pub fn add_to_offering(&mut self, name: &str, message: impl Into<String>) {
        self.offerings.push(OfferingErrors {
            name: name.to_owned(),
            messages: vec![message.into()],
            plans: Vec::new(),
        });
    }

    pub(super) fn add_offering(&mut self, errors: OfferingErrors) {
        if !errors.is_empty() {
            self.offerings.push(errors);
        }
    }

    /// Returns the errors line by line: those of the catalog, then each offering, each plan and its schemas, further to the right.
    pub fn text(&self) -> String {
        let mut text = "\n".to_owned();
        let mut line = |indent: usize, line: &str| {
            text.push_str(&"  ".repeat(indent));
            text.push_str(line);
            text.push('\n');
        };
        for message in &self.messages {
            line(0, message);
        }
        for offering in &self.offerings {
            line(0, &format!("Service {}", offering.name));
            for message in &offering.messages {
                line(1, message);
            }
            for plan in &offering.plans {
                line(1, &format!("Plan {}", plan.name));
                for message in &plan.messages {
                    line(2, message);
                }
                if !plan.schemas.is_empty() {
                    line(2, "Schemas");
                }
                for message in &plan.schemas {
                    line(3, message);
                }
            }
        }
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…\n", &text[..end]),
            None => text,
        }
    }
}
