//! The values that are bound to statements, and the values that rows contain.

use super::{Error, Result};
use sqlx::Arguments as _;
use sqlx::error::BoxDynError;
use sqlx::postgres::PgArguments;

/// A value that is bound to a mark of a statement. A NULL has a type too, because PostgreSQL needs it.
#[derive(Clone, PartialEq)]
pub enum Value {
    Text(Option<String>),
    /// Truth values are integers too: 0 and 1.
    Integer(Option<i64>),
    Real(Option<f64>),
    Bytes(Option<Vec<u8>>),
    /// The argument of `IN LIST($n)`.
    TextList(Vec<String>),
    /// The argument of `IN LIST($n)`.
    IntegerList(Vec<i64>),
}

/// Prints the type only, because values may be secret.
impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text",
            Self::Integer(_) => "Integer",
            Self::Real(_) => "Real",
            Self::Bytes(_) => "Bytes",
            Self::TextList(_) => "TextList",
            Self::IntegerList(_) => "IntegerList",
        })
    }
}

impl Value {
    /// Returns the argument of `IN LIST($n)` for a column of texts.
    pub fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::TextList(texts.into_iter().map(Into::into).collect())
    }
}

macro_rules! bound {
    ($($variant:ident: $($ty:ty),+;)+) => { $($(
        impl From<$ty> for Value {
            fn from(value: $ty) -> Self {
                Self::$variant(Some(value.into()))
            }
        }
        impl From<Option<$ty>> for Value {
            fn from(value: Option<$ty>) -> Self {
                Self::$variant(value.map(Into::into))
            }
        }
    )+)+ };
}
bound! {
    Text: &str, String, &String;
    Integer: i64, i32, u32, bool;
    Real: f64;
    Bytes: Vec<u8>, &[u8];
}

impl From<&Option<String>> for Value {
    fn from(value: &Option<String>) -> Self {
        Self::Text(value.clone())
    }
}
impl From<Vec<String>> for Value {
    fn from(values: Vec<String>) -> Self {
        Self::TextList(values)
    }
}
impl From<&[String]> for Value {
    fn from(values: &[String]) -> Self {
        Self::TextList(values.to_vec())
    }
}
impl From<&Vec<String>> for Value {
    fn from(values: &Vec<String>) -> Self {
        Self::TextList(values.clone())
    }
}
impl From<Vec<i64>> for Value {
    fn from(values: Vec<i64>) -> Self {
        Self::IntegerList(values)
    }
}

/// The error that a text contains the character NUL. PostgreSQL cannot store it, so neither database accepts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NulInText;

impl std::fmt::Display for NulInText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text contains the character NUL, which cannot be stored: remove it")
    }
}

impl std::error::Error for NulInText {}

impl NulInText {
    /// Returns whether this is the cause of an error of a statement.
    pub fn caused(error: &Error) -> bool {
        matches!(error, Error::Encode(source) if source.is::<Self>())
    }
}

/// Refuses texts that cannot be stored.
pub(super) fn check(values: &[Value]) -> Result<()> {
    let has_nul = |text: &String| text.contains('\0');
    let is_wrong = values.iter().any(|value| match value {
        Value::Text(text) => text.as_ref().is_some_and(has_nul),
        Value::TextList(texts) => texts.iter().any(has_nul),
        _ => false,
    });
    match is_wrong {
        true => Err(Error::Encode(NulInText.into())),
        false => Ok(()),
    }
}

/// Returns the values as arguments of PostgreSQL.
pub(super) fn postgres(values: Vec<Value>) -> Result<PgArguments> {
    check(&values)?;
    let mut arguments = PgArguments::default();
    for value in values {
        match value {
            Value::Text(text) => arguments.add(text),
            Value::Integer(number) => arguments.add(number),
            Value::Real(number) => arguments.add(number),
            Value::Bytes(bytes) => arguments.add(bytes),
            Value::TextList(texts) => arguments.add(texts),
            Value::IntegerList(numbers) => arguments.add(numbers),
        }
        .map_err(Error::Encode)?;
    }
    Ok(arguments)
}

/// One value of a row, as the database returned it.
#[derive(Clone, Copy, PartialEq)]
pub enum Cell<'r> {
    Null,
    Text(&'r str),
    Integer(i64),
    Real(f64),
    Bytes(&'r [u8]),
}

impl Cell<'_> {
    fn kind(self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Text(_) => "a text",
            Self::Integer(_) => "an integer",
            Self::Real(_) => "a real number",
            Self::Bytes(_) => "bytes",
        }
    }
}

/// Prints the type only, because values may be secret.
impl std::fmt::Debug for Cell<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}

/// A type that a value of a row can be read as.
pub trait FromCell<'r>: Sized {
    /// # Errors
    /// It fails if the value has another type or is out of range.
    fn from_cell(cell: Cell<'r>) -> Result<Self, BoxDynError>;
}

fn wrong(wanted: &str, found: Cell<'_>) -> BoxDynError {
    format!("the value is {}, but it must be {wanted}", found.kind()).into()
}

impl<'r, T: FromCell<'r>> FromCell<'r> for Option<T> {
    fn from_cell(cell: Cell<'r>) -> Result<Self, BoxDynError> {
        match cell {
            Cell::Null => Ok(None),
            cell => T::from_cell(cell).map(Some),
        }
    }
}

impl<'r> FromCell<'r> for &'r str {
    fn from_cell(cell: Cell<'r>) -> Result<Self, BoxDynError> {
        match cell {
            Cell::Text(text) => Ok(text),
            other => Err(wrong("a text", other)),
        }
    }
}

impl FromCell<'_> for String {
    fn from_cell(cell: Cell<'_>) -> Result<Self, BoxDynError> {
        <&str>::from_cell(cell).map(str::to_owned)
    }
}

impl<'r> FromCell<'r> for &'r [u8] {
    fn from_cell(cell: Cell<'r>) -> Result<Self, BoxDynError> {
        match cell {
            Cell::Bytes(bytes) => Ok(bytes),
            other => Err(wrong("bytes", other)),
        }
    }
}

impl FromCell<'_> for Vec<u8> {
    fn from_cell(cell: Cell<'_>) -> Result<Self, BoxDynError> {
        <&[u8]>::from_cell(cell).map(<[u8]>::to_vec)
    }
}

impl FromCell<'_> for i64 {
    fn from_cell(cell: Cell<'_>) -> Result<Self, BoxDynError> {
        match cell {
            Cell::Integer(number) => Ok(number),
            other => Err(wrong("an integer", other)),
        }
    }
}

macro_rules! small {
    ($($ty:ty),+) => { $(
        impl FromCell<'_> for $ty {
            fn from_cell(cell: Cell<'_>) -> Result<Self, BoxDynError> {
                Ok(i64::from_cell(cell)?.try_into()?)
            }
        }
    )+ };
}
small!(i32, u32, u16);

impl FromCell<'_> for bool {
    fn from_cell(cell: Cell<'_>) -> Result<Self, BoxDynError> {
        Ok(i64::from_cell(cell)? != 0)
    }
}

impl FromCell<'_> for f64 {
    fn from_cell(cell: Cell<'_>) -> Result<Self, BoxDynError> {
        match cell {
            Cell::Real(number) => Ok(number),
            other => Err(wrong("a real number", other)),
        }
    }
}
