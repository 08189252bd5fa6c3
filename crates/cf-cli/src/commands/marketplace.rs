//! The marketplace: offerings and plans.

use crate::api::error::ApiError;
use crate::api::types::{Cost, MarketPage, Named, OfferingPage, ServiceOffering, ServicePlan};
use crate::api::{Request, filter, with_query};
use crate::args::{Flag, Parsed, Spec, switch, value};
use crate::session::Session;
use anyhow::{Result, bail};
use reqwest::Method;
use std::collections::BTreeMap;

const GROUP: &str = "Marketplace";
const OFFERINGS: &str = "/v3/service_offerings";
pub(super) const PLANS: &str = "/v3/service_plans";
const BROKER_OF_OFFERING: (&str, &str) = ("fields[service_broker]", "name,guid");

pub(super) const BROKER: Flag = value(
    Some('b'),
    "",
    "BROKER",
    "Service broker; required if several have an offering of this name",
);
pub(super) const OFFERING: Flag = value(Some('e'), "", "SERVICE_OFFERING", "Only this offering");
const FORCE: Flag = switch(Some('f'), "force", "Purge without asking");

pub(super) const SPECS: &[Spec] = &[
    Spec {
        name: "marketplace",
        alias: "m",
        group: GROUP,
        about: "List the service offerings that the targeted space may use",
        args: &[],
        flags: &[
            OFFERING,
            value(Some('b'), "", "BROKER", "Only this service broker"),
            switch(None, "no-plans", "Leave out the plans").not_with(&["e"]),
            switch(None, "show-unavailable", "Show unavailable plans, too"),
        ],
        examples: &["cf marketplace", "cf marketplace -e postgres"],
    },
    Spec {
        name: "purge-service-offering",
        alias: "",
        group: GROUP,
        about: "Remove an offering with all its instances from the platform, without a call of its broker",
        args: &["SERVICE_OFFERING"],
        flags: &[BROKER, FORCE],
        examples: &["cf purge-service-offering postgres -f"],
    },
];

pub(super) async fn run(s: &Session, spec: &Spec, p: &Parsed) -> Result<()> {
    match spec.name {
        "marketplace" => marketplace(s, p).await,
        _ => purge(s, p).await,
    }
}

/// Returns one page of plans. Everybody may read the marketplace, so a token is sent only if there is one.
async fn page(s: &Session, url: &str) -> Result<MarketPage> {
    if s.require_login().is_ok() {
        return s.get(url).await;
    }
    s.require_api()?;
    let url = match url.starts_with('/') {
        true => format!("{}{url}", s.config().target.trim_end_matches('/')),
        false => url.to_owned(),
    };
    let response = s.exchange(Request::new(Method::GET, &url)).await?;
    match response.is_success() {
        true => response.json(&url),
        false => Err(ApiError::of(&Method::GET, &url, &response).into()),
    }
}

/// Returns all plans with what is included beside them.
pub(super) async fn plans(s: &Session, query: &[(&str, &str)]) -> Result<MarketPage> {
    let mut query = query.to_vec();
    query.push(("per_page", "5000"));
    let mut all = page(s, &with_query(PLANS, &query)).await?;
    while let Some(next) = all.pagination.next.take().and_then(|next| next.href) {
        let more = page(s, &next).await?;
        all.resources.extend(more.resources);
        all.included.add(more.included);
        all.pagination = more.pagination;
    }
    Ok(all)
}

pub(super) fn by_guid(rows: &[Named]) -> BTreeMap<&str, &str> {
    rows.iter()
        .map(|row| (row.guid.as_str(), row.name.as_str()))
        .collect()
}

fn yes_or_no(value: bool) -> String {
    let text = if value { "yes" } else { "no" };
    text.to_owned()
}

/// Returns costs as `USD 9.50/MONTHLY`.
fn costs(costs: &[Cost]) -> String {
    let costs: Vec<String> = costs
        .iter()
        .map(|cost| format!("{} {:.2}/{}", cost.currency, cost.amount, cost.unit))
        .collect();
    costs.join(", ")
}

async fn marketplace(s: &Session, p: &Parsed) -> Result<()> {
    let (offering, broker) = (p.get("e"), p.get("b"));
    let (hides_plans, shows_all) = (p.has("no-plans"), p.has("show-unavailable"));
    let target = match s.require_login() {
        Ok(_) => Some(s.require_space()?),
        Err(_) => None,
    };
    let mut title = match offering {
        None => "Getting all service offerings from marketplace".to_owned(),
        Some(_) => "Getting service plan information for service offering {}".to_owned(),
    };
    let mut names: Vec<&str> = offering.into_iter().collect();
    if let Some(broker) = broker {
        title.push_str(if offering.is_none() { " for" } else { " from" });
        title.push_str(" service broker {}");
        names.push(broker);
    }
    if let Some(target) = &target {
        title.push_str(" in org {} / space {} as {}");
        names.extend([&*target.org.name, &*target.space.name, &*target.user]);
    }
    s.ui.flavor(&format!("{title}..."), &names);
    let (offering_name, broker_name) = (offering.map(filter), broker.map(filter));
    let mut query = vec![
        ("include", "service_offering"),
        ("fields[service_offering.service_broker]", "name,guid"),
        ("order_by", "name"),
    ];
    if !shows_all {
        query.push(("available", "true"));
    }
    if let Some(name) = &offering_name {
        query.push(("service_offering_names", name));
    }
    if let Some(name) = &broker_name {
        query.push(("service_broker_names", name));
    }
    if let Some(target) = &target {
        query.push(("space_guids", &target.space.guid));
    }
    let found = plans(s, &query).await?;
    s.ui.blank();
    if found.resources.is_empty() {
        s.ui.line("No service offerings found.");
        return Ok(());
    }
    let brokers = by_guid(&found.included.service_brokers);
    let mut offerings: Vec<&ServiceOffering> = found.included.service_offerings.iter().collect();
    offerings.sort_by(|a, b| a.name.cmp(&b.name));
    let broker_of = |offering: &ServiceOffering| {
        let guid = offering.relationships.service_broker.guid();
        brokers.get(guid).copied().unwrap_or_default().to_owned()
    };
    let plans_of = |offering: &ServiceOffering| -> Vec<&ServicePlan> {
        let all = found.resources.iter();
        all.filter(|plan| plan.offering_guid() == offering.guid)
            .collect()
    };
    if offering.is_some() {
        let mut header = vec!["plan", "description", "free or paid", "costs"];
        if shows_all {
            header.push("available");
        }
        for (at, offering) in offerings.into_iter().enumerate() {
            if at > 0 {
                s.ui.blank();
            }
            s.ui.flavor("broker: {}", &[&broker_of(offering)]);
            let rows = plans_of(offering).into_iter().map(|plan| {
                let price = if plan.free { "free" } else { "paid" };
                let mut row = vec![
                    plan.name.clone(),
                    plan.description.clone(),
                    price.to_owned(),
                    costs(&plan.costs),
                ];
                if shows_all {
                    row.push(yes_or_no(plan.available));
                }
                row
            });
            s.ui.table("   ", &header, rows.collect());
        }
        return Ok(());
    }
    let rows = offerings.into_iter().map(|offering| {
        let mut row = vec![offering.name.clone()];
        if !hides_plans {
            let plans = plans_of(offering).into_iter();
            let plans: Vec<&str> = plans.map(|plan| plan.name.as_str()).collect();
            row.push(plans.join(", "));
        }
        row.extend([offering.description.clone(), broker_of(offering)]);
        row
    });
    let rows = rows.collect();
    match hides_plans {
        true => s.ui.table("", &["offering", "description", "broker"], rows),
        false => {
            let header = ["offering", "plans", "description", "broker"];
            s.ui.table("", &header, rows);
        }
    }
    s.ui.blank();
    s.ui.line("TIP: Use 'cf marketplace -e SERVICE_OFFERING' to view descriptions of individual plans of a given service offering.");
    Ok(())
}

/// Returns the only offering of a name, with the name of its broker.
pub(super) async fn offering(
    s: &Session,
    name: &str,
    broker: Option<&str>,
) -> Result<ServiceOffering> {
    let (names, brokers) = (filter(name), broker.map(filter));
    let mut query = vec![("names", names.as_str()), BROKER_OF_OFFERING];
    if let Some(brokers) = &brokers {
        query.push(("service_broker_names", brokers));
    }
    let url = with_query(OFFERINGS, &query);
    let found: OfferingPage = s.get(&url).await?;
    match found.resources.as_slice() {
        [] => match broker {
            Some(broker) => {
                bail!("Service offering '{name}' for service broker '{broker}' not found.")
            }
            None => bail!("Service offering '{name}' not found."),
        },
        [one] => Ok(one.clone()),
        _ => {
            let names: Vec<&str> = found
                .included
                .service_brokers
                .iter()
                .map(|broker| broker.name.as_str())
                .collect();
            bail!(
                "Service offering '{name}' is provided by multiple service brokers: {}\nSpecify a broker by using the '-b' flag.",
                names.join(", ")
            )
        }
    }
}

const WARNING: &str = "WARNING: The service broker is not called. All knowledge of the service offering is removed from the platform, with its service instances and service bindings; what the broker has made stays there. Use this only if the broker does not exist any more.\n";

async fn purge(s: &Session, p: &Parsed) -> Result<()> {
    s.require_login()?;
    let (name, broker) = (p.arg(0), p.get("b"));
    if !p.has("force") {
        s.ui.line(WARNING);
        let from = broker.map_or_else(String::new, |broker| format!(" from broker {broker}"));
        let question = format!("Really purge service offering {name}{from} from Cloud Foundry?");
        if !s.ui.confirm(&question)? {
            s.ui.line("Purge service offering cancelled.\n");
            return p.end_early();
        }
    }
    s.ui.line(format!("Purging service offering {name}..."));
    match offering(s, name, broker).await {
        Ok(found) => {
            let path = format!("{OFFERINGS}/{}?purge=true", found.guid);
            s.delete(&path).await?;
        }
        Err(error) if error.to_string().ends_with(" not found.") => s.ui.line(error.to_string()),
        Err(error) => return Err(error),
    }
    s.ui.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_have_two_decimals() {
        let cost = |currency: &str, amount| Cost {
            currency: currency.to_owned(),
            amount,
            unit: "MONTHLY".to_owned(),
        };
        let text = costs(&[cost("USD", 9.5), cost("EUR", 9.0)]);
        assert_eq!(text, "USD 9.50/MONTHLY, EUR 9.00/MONTHLY");
        assert_eq!(costs(&[]), "");
    }
}
