//! Feature flags.

use super::{Connection, Order, Select, rows};

rows! {
    FeatureFlag in "feature_flags" { name: String, enabled: bool, custom_error_message: Option<String> }
}

/// The order of feature flags by their names.
pub(crate) const BY_NAME: Order = Order::terms("name");

/// Returns a flag. A stored flag that cannot be read counts as off, because it may have been off. Setting it overwrites the row.
pub(crate) async fn by_name(
    conn: &mut Connection,
    name: &str,
) -> sqlx::Result<Option<FeatureFlag>> {
    let found = Select::new().is("name", name).readable(conn).await?;
    let unreadable = |guid: Option<String>| FeatureFlag {
        guid: guid.unwrap_or_default(),
        name: name.to_owned(),
        custom_error_message: Some(format!(
            "the stored flag '{name}' cannot be read; set it with 'cf enable-feature-flag {name}' or 'cf disable-feature-flag {name}'"
        )),
        ..FeatureFlag::default()
    };
    Ok(found.only_or(unreadable))
}
