//! JSON whose objects keep the order of their keys. What users store as credentials returns in the order in which they sent it, so
//! that apps find it byte for byte as on other foundations. Other JSON does not need it.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::Number;
use std::collections::HashMap;
use std::fmt;

/// A value whose objects are lists of pairs. A key that occurs twice keeps its first place and its last value.
#[derive(Clone, Debug, PartialEq)]
pub enum OrderedJson {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl OrderedJson {
    /// Returns the value of a key of an object.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(pairs) => pairs
                .iter()
                .find(|(other, _)| other == key)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// Returns the value as JSON text without spaces.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("the keys of the objects are texts")
    }

    /// Returns whether the value is null, or a list or an object without content.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::List(list) => list.is_empty(),
            Self::Object(pairs) => pairs.is_empty(),
            Self::Bool(_) | Self::Number(_) | Self::Text(_) => false,
        }
    }
}

impl Serialize for OrderedJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(list) => list.serialize(serializer),
            Self::Object(pairs) => {
                let mut map = serializer.serialize_map(Some(pairs.len()))?;
                for (key, value) in pairs {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for OrderedJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = OrderedJson;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<OrderedJson, E> {
        Ok(OrderedJson::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<OrderedJson, E> {
        Ok(OrderedJson::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<OrderedJson, E> {
        Ok(OrderedJson::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<OrderedJson, E> {
        Ok(OrderedJson::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<OrderedJson, E> {
        Ok(Number::from_f64(number).map_or(OrderedJson::Null, OrderedJson::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<OrderedJson, E> {
        Ok(OrderedJson::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<OrderedJson, E> {
        Ok(OrderedJson::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OrderedJson, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(OrderedJson::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<OrderedJson, A::Error> {
        let mut pairs: Vec<(String, OrderedJson)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        while let Some((key, value)) = entries.next_entry::<String, OrderedJson>()? {
            match places.get(&key).copied() {
                Some(at) => pairs[at].1 = value,
                None => {
                    places.insert(key.clone(), pairs.len());
                    pairs.push((key, value));
                }
            }
        }
        Ok(OrderedJson::Object(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(text: &str) -> String {
        serde_json::from_str::<OrderedJson>(text).unwrap().text()
    }

    #[test]
    fn keys_keep_their_order_and_spaces_disappear() {
        for (text, wanted) in [
            (
                r#"{ "z": 1, "a": [ {"y": null, "b": true} ], "m": "x y" }"#,
                r#"{"z":1,"a":[{"y":null,"b":true}],"m":"x y"}"#,
            ),
            (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
            ("[]", "[]"),
            ("{}", "{}"),
            (
                "[1,-2,2.5,1.0,18446744073709551615]",
                "[1,-2,2.5,1.0,18446744073709551615]",
            ),
            (r#""\u0041/\u00e9\n\u0001""#, "\"A/é\\n\\u0001\""),
            ("null", "null"),
        ] {
            assert_eq!(again(text), wanted);
        }
    }

    #[test]
    fn values_are_found_by_key_and_emptiness_is_known() {
        let json: OrderedJson = serde_json::from_str(r#"{"a":{},"b":""}"#).unwrap();
        assert!(json.get("a").unwrap().is_empty());
        assert!(!json.get("b").unwrap().is_empty());
        assert_eq!(json.get("c"), None);
        assert_eq!(OrderedJson::Null.get("a"), None);
    }
}
