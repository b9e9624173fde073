//! Policy sets, and what they decide.

use crate::request::{Question, Side, Types};
use cedar_policy::{
    Authorizer, Decision as Cedar, Entities, PolicyId, Schema, ValidationMode, Validator,
};
use std::collections::{BTreeSet, HashMap};
use std::fmt;

/// Why a text is not a policy set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Not Cedar.
    #[error("cannot read the policies: {reason}")]
    Syntax {
        /// Cedar's words, with the place.
        reason: String,
    },
    /// A policy has no name to tell a refused caller.
    #[error("the policy `{start}...` has no name\nhelp: put `@id(\"a-name\")` before it")]
    Unnamed {
        /// How the policy begins.
        start: String,
    },
    /// Two policies have one name.
    #[error("two policies are called `{name}`")]
    NamedTwice {
        /// That name.
        name: String,
    },
    /// Templates do nothing until they are linked, and nothing links them here.
    #[error("policy templates (`?principal`, `?resource`) are not used here")]
    Template,
    /// It speaks of what is not in the schema, or compares what cannot be equal.
    #[error("the policies do not fit their schema: {reason}")]
    Invalid {
        /// Cedar's words, one policy a line.
        reason: String,
    },
    /// The schema that ships with this crate cannot be read.
    #[error("cannot read the built-in policy schema: {reason}")]
    Schema {
        /// Cedar's words.
        reason: String,
    },
}

/// What a policy set says to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// At least one policy permits and none forbids.
    Permit {
        /// The names of those that permit, sorted.
        policies: Vec<String>,
    },
    /// One forbids, or none permits.
    Forbid {
        /// The names of those that forbid, sorted; never empty, see [`Decision::NOTHING_PERMITS`].
        policies: Vec<String>,
    },
}

impl Decision {
    /// The name given where no policy permits.
    pub const NOTHING_PERMITS: &'static str = "nothing-permits-it";
    /// The name given where the request could not be evaluated.
    pub const NOT_EVALUATED: &'static str = "policy-could-not-be-evaluated";

    /// Whether it is permitted.
    #[must_use]
    pub fn permits(&self) -> bool {
        matches!(self, Self::Permit { .. })
    }
}

/// The policies of a council or a department, checked against their schema.
pub struct Policies {
    policies: cedar_policy::PolicySet,
    names: HashMap<PolicyId, String>,
    authorizer: Authorizer,
    pub(crate) types: Types,
    pub(crate) side: Side,
    actions: Entities,
}

impl Policies {
    /// A council's policies, for its authority.
    pub fn council(text: &str) -> Result<Self, PolicyError> {
        Self::checked(
            text,
            Side::Council,
            include_str!("../policies/council.cedarschema"),
        )
    }

    /// A department's policies, for its node.
    pub fn department(text: &str) -> Result<Self, PolicyError> {
        Self::checked(
            text,
            Side::Department,
            include_str!("../policies/department.cedarschema"),
        )
    }

    fn checked(text: &str, side: Side, schema: &str) -> Result<Self, PolicyError> {
        let broken = |e: &dyn fmt::Display| PolicyError::Schema {
            reason: e.to_string(),
        };
        let (schema, _warnings) = Schema::from_cedarschema_str(schema).map_err(|e| broken(&e))?;
        let actions = schema.action_entities().map_err(|e| broken(&e))?;
        let types = Types {
            principal: "Principal".parse().map_err(|e| broken(&e))?,
            product: "Product".parse().map_err(|e| broken(&e))?,
            action: "Action".parse().map_err(|e| broken(&e))?,
        };
        let policies: cedar_policy::PolicySet =
            text.parse()
                .map_err(|e: cedar_policy::ParseErrors| PolicyError::Syntax {
                    reason: e
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join("; "),
                })?;
        if policies.templates().next().is_some() {
            return Err(PolicyError::Template);
        }
        let names = named(&policies)?;
        let result = Validator::new(schema).validate(&policies, ValidationMode::Strict);
        if !result.validation_passed_without_warnings() {
            let errors = result
                .validation_errors()
                .map(|e| (e.policy_id(), e.to_string()));
            let warnings = result
                .validation_warnings()
                .map(|w| (w.policy_id(), w.to_string()));
            let lines: BTreeSet<String> = errors
                .chain(warnings)
                .map(|(id, what)| format!("{}: {what}", names.get(id).map_or("?", String::as_str)))
                .collect();
            let reason = lines.into_iter().collect::<Vec<_>>().join("; ");
            return Err(PolicyError::Invalid { reason });
        }
        Ok(Self {
            policies,
            names,
            authorizer: Authorizer::new(),
            types,
            side,
            actions,
        })
    }

    /// What these policies say. Never fails: what cannot be evaluated is forbidden.
    #[must_use]
    pub fn decide(&self, question: &Question<'_>) -> Decision {
        let not_evaluated = || Decision::Forbid {
            policies: vec![Decision::NOT_EVALUATED.to_owned()],
        };
        let Some(entities) = question.entities(&self.types, self.side) else {
            return not_evaluated();
        };
        let Ok(entities) = self.actions.clone().add_entities(entities, None) else {
            return not_evaluated();
        };
        let Some(context) = question.context() else {
            return not_evaluated();
        };
        // The schema was held against the policies; that requests and entities conform to
        // it too is held by a test, not looked up again for each request.
        let Ok(request) = cedar_policy::Request::new(
            question.principal_uid(&self.types),
            question.action_uid(&self.types),
            question.product_uid(&self.types),
            context,
            None,
        ) else {
            return not_evaluated();
        };
        let answer = self
            .authorizer
            .is_authorized(&request, &self.policies, &entities);
        // Cedar skips a policy that fails. A `forbid` must not be lost that way.
        if answer.diagnostics().errors().next().is_some() {
            return not_evaluated();
        }
        let mut named: Vec<String> = answer
            .diagnostics()
            .reason()
            .map(|id| {
                self.names
                    .get(id)
                    .cloned()
                    .unwrap_or_else(|| id.to_string())
            })
            .collect();
        named.sort();
        match answer.decision() {
            Cedar::Allow => Decision::Permit { policies: named },
            Cedar::Deny => {
                if named.is_empty() {
                    named.push(Decision::NOTHING_PERMITS.to_owned());
                }
                Decision::Forbid { policies: named }
            }
        }
    }

    /// The names of the policies, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.names.values().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policies")
            .field("side", &self.side)
            .field("names", &self.names())
            .finish_non_exhaustive()
    }
}

fn named(policies: &cedar_policy::PolicySet) -> Result<HashMap<PolicyId, String>, PolicyError> {
    let mut seen = BTreeSet::new();
    let mut names = HashMap::new();
    for policy in policies.policies() {
        let name = match policy.annotation("id") {
            Some(name) if !name.trim().is_empty() => name.to_owned(),
            _ => {
                let start = policy.to_string().chars().take(60).collect();
                return Err(PolicyError::Unnamed { start });
            }
        };
        if !seen.insert(name.clone()) {
            return Err(PolicyError::NamedTwice { name });
        }
        names.insert(policy.id().clone(), name);
    }
    Ok(names)
}
