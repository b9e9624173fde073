//! Names, each of its own type, each valid once made.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, too long, or with a character that this kind of name cannot have.
    #[error("`{text}` is not a {kind}: {rule}")]
    Invalid {
        /// What was being parsed.
        kind: &'static str,
        /// The text, cut to 64 characters.
        text: String,
        /// What such a name looks like.
        rule: &'static str,
    },
}

fn is_sql_name(s: &str) -> bool {
    let mut bytes = s.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && s.len() <= 63
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn is_column_name(s: &str) -> bool {
    !s.is_empty() && s.len() <= 128 && !s.chars().any(char::is_control)
}

fn is_plain_id(s: &str) -> bool {
    !s.is_empty()
        && s.len() <= 128
        && s.bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@'))
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $check:ident, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                if $check(s) {
                    Ok(Self(s.to_owned()))
                } else {
                    Err(NameError::Invalid {
                        kind: $kind,
                        text: s.chars().take(64).collect(),
                        rule: $rule,
                    })
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(s: String) -> Result<Self, NameError> {
                s.parse()
            }
        }

        impl From<$type> for String {
            fn from(n: $type) -> String {
                n.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A council: the trust domain of its SPIFFE ids and the catalogue of its products.
    CouncilName, "council name", is_sql_name, "lower-case letters, digits and `_`, a letter first, 63 at most"
);
name!(
    /// A department of a council. `council` is kept for roles of the council itself.
    DepartmentName, "department name", is_sql_name, "lower-case letters, digits and `_`, a letter first, 63 at most"
);
name!(
    /// A table at rest.
    DatasetName, "dataset name", is_sql_name, "lower-case letters, digits and `_`, a letter first, 63 at most"
);
name!(
    /// A view that a department offers.
    ProductName, "product name", is_sql_name, "lower-case letters, digits and `_`, a letter first, 63 at most"
);
name!(
    /// A column of a dataset or product.
    ColumnName, "column name", is_column_name, "1 to 128 characters, none of them a control character"
);
name!(
    /// Why somebody asks, from the council's published list.
    Purpose, "purpose", is_sql_name, "lower-case letters, digits and `_`, a letter first, 63 at most"
);
name!(
    /// A span of time whose column keys live and die together.
    PeriodName, "key period", is_plain_id, "letters, digits, `_`, `-` and `.`, 128 at most"
);
name!(
    /// A role's own name within its department.
    RoleName, "role name", is_plain_id, "letters, digits, `_`, `-`, `.` and `@`, 128 at most"
);
name!(
    /// Who asks: an account, service or supplier of a council.
    PrincipalName, "principal name", is_plain_id, "letters, digits, `_`, `-`, `.` and `@`, 128 at most"
);
name!(
    /// Names one grant in logs and messages.
    GrantId, "grant id", is_plain_id, "letters, digits, `_` and `-`, 128 at most"
);
name!(
    /// Names one query across gateway, authority and nodes.
    QueryId, "query id", is_plain_id, "letters, digits, `_` and `-`, 128 at most"
);

name!(
    /// Names one meeting of rows across authority, nodes and clean room.
    LinkageId, "linkage id", is_plain_id, "letters, digits, `_` and `-`, 128 at most"
);
name!(
    /// What units are, called the same by all whose rows meet on them.
    IdentityName, "identity name", is_sql_name, "lower-case letters, digits and `_`, a letter first, 63 at most"
);
name!(
    /// The reference of a data protection impact assessment.
    DpiaReference, "DPIA reference", is_plain_id, "letters, digits, `_`, `-`, `.` and `@`, 128 at most"
);

impl DepartmentName {
    /// The reserved department of roles that belong to the council as a whole.
    pub const COUNCIL: &'static str = "council";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_names_need_no_quotes() {
        assert!("parking".parse::<ProductName>().is_ok());
        for bad in ["", "Parking", "1st", "a-b", "a b", "a\"b", "é"] {
            assert!(bad.parse::<ProductName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_column_keeps_the_name_that_its_file_gave_it() {
        assert!("LSOA code".parse::<ColumnName>().is_ok());
        assert!("a\nb".parse::<ColumnName>().is_err());
    }
}
