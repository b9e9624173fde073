//! The walk over the Substrait message itself, before the engine sees it.
//!
//! Every part of the message is matched against a closed list; a field that a producer of this
//! profile does not write must be empty. Depth is bounded by the decoder (100 messages), size by
//! [`FragmentLimits`].

mod expression;
mod relation;
mod value;

use super::{FragmentLimits, ProfileError};
use crate::functions;
use datafusion_substrait::substrait::proto;
use datafusion_substrait::variation_const::NULL_TYPE_NAME;
use guildhall_model::ProductRef;
use prost::Message;
use proto::extensions::simple_extension_declaration::MappingType;
use proto::{Plan, plan_rel};
use std::collections::{BTreeSet, HashSet};

/// Operators and built-in predicates, by their Substrait names. `xor` and `between` are left out:
/// the consumer copies their operands, and nested copies grow without bound.
const OPERATORS: &[&str] = &[
    "equal",
    "not_equal",
    "lt",
    "lte",
    "gt",
    "gte",
    "add",
    "subtract",
    "multiply",
    "divide",
    "modulus",
    "and",
    "or",
    "is_distinct_from",
    "is_not_distinct_from",
    "regex_match",
    "regex_imatch",
    "regex_not_match",
    "regex_not_imatch",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "bitwise_shift_right",
    "bitwise_shift_left",
    "str_concat",
    "not",
    "like",
    "ilike",
    "is_null",
    "is_not_null",
    "is_true",
    "is_false",
    "is_unknown",
    "is_not_true",
    "is_not_false",
    "is_not_unknown",
    "negate",
];

/// Listed functions that Substrait calls otherwise.
const RENAMED: &[&str] = &["logb", "is_nan"];

/// The message in `bytes`, if they are few enough.
pub(super) fn parse(bytes: &[u8], limits: &FragmentLimits) -> Result<Plan, ProfileError> {
    if bytes.len() > limits.max_bytes {
        return Err(ProfileError::TooLarge {
            bytes: bytes.len(),
            limit: limits.max_bytes,
        });
    }
    Plan::decode(bytes).map_err(|_| ProfileError::Malformed)
}

/// Checks every part of `plan`; the products that it reads.
pub(super) fn check(
    plan: &Plan,
    limits: &FragmentLimits,
) -> Result<BTreeSet<ProductRef>, ProfileError> {
    let mut walk = Walk {
        limits,
        nodes: 0,
        list_values: 0,
        rows: 0,
        functions: HashSet::new(),
        null_types: HashSet::new(),
        products: BTreeSet::new(),
    };
    walk.plan(plan)?;
    Ok(walk.products)
}

type Checked = Result<(), ProfileError>;

struct Walk<'a> {
    limits: &'a FragmentLimits,
    nodes: usize,
    list_values: usize,
    rows: usize,
    functions: HashSet<u32>,
    null_types: HashSet<u32>,
    products: BTreeSet<ProductRef>,
}

fn refuse<T>(what: &str) -> Result<T, ProfileError> {
    Err(ProfileError::not_in_profile(what))
}

fn need<T>(part: Option<&T>) -> Result<&T, ProfileError> {
    part.ok_or(ProfileError::Malformed)
}

fn absent<T>(part: Option<&T>, what: &str) -> Checked {
    match part {
        None => Ok(()),
        Some(_) => refuse(what),
    }
}

impl Walk<'_> {
    fn count(&mut self, n: usize) -> Checked {
        self.nodes = self.nodes.saturating_add(n);
        if self.nodes > self.limits.max_nodes {
            return Err(ProfileError::TooMany {
                what: "parts",
                limit: self.limits.max_nodes,
            });
        }
        Ok(())
    }

    fn plan(&mut self, plan: &Plan) -> Checked {
        absent(plan.advanced_extensions.as_ref(), "an advanced extension")?;
        if !plan.parameter_bindings.is_empty() {
            return refuse("a parameter");
        }
        if !plan.type_aliases.is_empty() || !plan.expected_type_urls.is_empty() {
            return refuse("a type of its own");
        }
        self.count(plan.extensions.len())?;
        for extension in &plan.extensions {
            self.extension(need(extension.mapping_type.as_ref())?)?;
        }
        let [relation] = plan.relations.as_slice() else {
            return refuse("more or fewer than one relation");
        };
        match need(relation.rel_type.as_ref())? {
            plan_rel::RelType::Root(root) => {
                self.count(root.names.len())?;
                self.rel(need(root.input.as_ref())?)
            }
            plan_rel::RelType::Rel(_) => refuse("a relation that is not a root"),
        }
    }

    fn extension(&mut self, mapping: &MappingType) -> Checked {
        match mapping {
            MappingType::ExtensionFunction(f) => {
                let name = f.name.split(':').next().unwrap_or_default();
                let listed = OPERATORS.contains(&name)
                    || RENAMED.contains(&name)
                    || functions::is_known(name);
                if !listed {
                    return Err(functions::FunctionError::NotOffered { name: spoken(name) }.into());
                }
                self.functions.insert(f.function_anchor);
                Ok(())
            }
            MappingType::ExtensionType(t) if t.name == NULL_TYPE_NAME => {
                self.null_types.insert(t.type_anchor);
                Ok(())
            }
            MappingType::ExtensionType(_) => refuse("a type of its own"),
            MappingType::ExtensionTypeVariation(_) => refuse("a type variation"),
        }
    }
}

/// As much of a name as may stand in a message or a log: whoever wrote the fragment chose it.
fn spoken(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
        .take(64)
        .collect()
}
