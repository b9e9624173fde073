//! Parsing, validating and asking a set of policies.

use crate::request::Question;
use cedar_policy::{
    Authorizer, Context, Decision as CedarDecision, Entities, Entity, EntityId, EntityTypeName,
    EntityUid, PolicySet, Request, RestrictedExpression, Schema, ValidationMode, Validator,
};
use std::collections::{HashMap, HashSet};
use std::str::FromStr;

/// Why a policy text cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The text is not Cedar.
    #[error("the policy is not valid Cedar: {detail}")]
    Syntax {
        /// Cedar's own words, with line and column.
        detail: String,
    },
    /// It speaks of things that the schema does not have.
    #[error("the policy does not fit Guildhall's schema: {detail}")]
    Schema {
        /// Cedar's own words, one finding a line.
        detail: String,
    },
}

/// What a policy set says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Some policy permits and none forbids.
    Permit {
        /// The public names (`@id`) of the policies that permitted.
        policies: Vec<String>,
    },
    /// Nothing permits, or something forbids.
    Forbid {
        /// The public names of the policies that forbade; empty if nothing permitted.
        policies: Vec<String>,
    },
}

impl Decision {
    /// Whether it permits.
    #[must_use]
    pub fn permits(&self) -> bool {
        matches!(self, Self::Permit { .. })
    }
}

/// A validated set of policies.
#[derive(Debug)]
pub struct Policies {
    set: PolicySet,
    schema: Schema,
    authorizer: Authorizer,
}

impl Policies {
    /// Parses and strictly validates policy text.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let set = PolicySet::from_str(text)
            .map_err(|e| PolicyError::Syntax { detail: e.to_string() })?;
        let (schema, _) = Schema::from_cedarschema_str(crate::SCHEMA)
            .map_err(|e| PolicyError::Schema { detail: e.to_string() })?;
        let found = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
        if !found.validation_passed() {
            let lines: Vec<String> = found.validation_errors().map(ToString::to_string).collect();
            return Err(PolicyError::Schema { detail: lines.join("\n") });
        }
        Ok(Self { set, schema, authorizer: Authorizer::new() })
    }

    /// Asks. Fails closed: what cannot be evaluated is forbidden.
    #[must_use]
    pub fn decide(&self, question: &Question<'_>) -> Decision {
        let Some((request, entities)) = self.request(question) else {
            return Decision::Forbid { policies: vec!["unevaluable-request".to_owned()] };
        };
        let response = self.authorizer.is_authorized(&request, &self.set, &entities);
        let mut policies: Vec<String> = response
            .diagnostics()
            .reason()
            .map(|id| self.set.annotation(id, "id").map_or_else(|| id.to_string(), str::to_owned))
            .collect();
        policies.sort_unstable();
        // Invariant: Cedar skips a policy whose evaluation fails, even a forbid; we do not.
        if response.diagnostics().errors().next().is_some() {
            return Decision::Forbid { policies: vec!["unevaluable-policy".to_owned()] };
        }
        match response.decision() {
            CedarDecision::Allow => Decision::Permit { policies },
            CedarDecision::Deny => Decision::Forbid { policies },
        }
    }

    fn request(&self, q: &Question<'_>) -> Option<(Request, Entities)> {
        let Question { asker, action, subject, purpose, columns, gateway, council } = *q;
        let principal = uid("Principal", &asker.principal.to_string())?;
        let product = uid("Product", &subject.product.to_string())?;
        let entities = Entities::from_entities(
            [
                entity(
                    principal.clone(),
                    [
                        ("council", text(asker.principal.council.as_str())),
                        ("roles", texts(asker.roles.iter())),
                        ("purposes", texts(asker.purposes.iter())),
                    ],
                )?,
                entity(
                    product.clone(),
                    [
                        ("council", text(subject.product.council.as_str())),
                        ("department", text(subject.product.department.as_str())),
                        ("name", text(subject.product.product.as_str())),
                        ("class", text(subject.class.as_str())),
                        ("purposes", texts(subject.purposes.iter())),
                        ("conforms_to", text(subject.conforms_to.as_ref().map_or("", |c| c.as_str()))),
                    ],
                )?,
            ],
            Some(&self.schema),
        )
        .ok()?;
        let context = Context::from_pairs(
            [
                ("purpose", text(purpose.as_str())),
                ("columns", texts(columns.iter())),
                ("gateway", text(&gateway.to_string())),
                ("council", text(council.as_str())),
            ]
            .map(|(k, v)| (k.to_owned(), v)),
        )
        .ok()?;
        let request = Request::new(
            principal,
            uid("Action", action.as_str())?,
            product,
            context,
            Some(&self.schema),
        )
        .ok()?;
        Some((request, entities))
    }
}

fn uid(kind: &str, id: &str) -> Option<EntityUid> {
    Some(EntityUid::from_type_name_and_id(EntityTypeName::from_str(kind).ok()?, EntityId::new(id)))
}

fn entity<const N: usize>(
    uid: EntityUid,
    attributes: [(&str, RestrictedExpression); N],
) -> Option<Entity> {
    let attributes: HashMap<String, RestrictedExpression> =
        attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    Entity::new(uid, attributes, HashSet::new()).ok()
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn texts<T: AsRef<str>>(values: impl Iterator<Item = T>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.map(|v| text(v.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Asker, DEFAULT_COUNCIL_POLICY, DEFAULT_DEPARTMENT_POLICY, Subject};
    use guildhall_model::{ColumnName, Principal, ProductRef, ReleaseClass};
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    fn asker(council: &str, purposes: &[&str]) -> Asker {
        Asker {
            principal: Principal {
                council: council.parse().unwrap(),
                name: "ana".parse().unwrap(),
            },
            roles: BTreeSet::from(["analyst".to_owned()]),
            purposes: purposes.iter().map(|p| p.parse().unwrap()).collect(),
        }
    }

    fn subject(class: ReleaseClass) -> Subject {
        Subject {
            product: ProductRef {
                council: "northmoor".parse().unwrap(),
                department: "parking".parse().unwrap(),
                product: "sessions".parse().unwrap(),
            },
            class,
            purposes: BTreeSet::from(["transport_planning".parse().unwrap()]),
            conforms_to: None,
        }
    }

    fn ask(policies: &Policies, who: &Asker, action: Action, what: &Subject, why: &str) -> Decision {
        policies.decide(&Question {
            asker: who,
            action,
            subject: what,
            purpose: &why.parse().unwrap(),
            columns: &BTreeSet::<ColumnName>::new(),
            gateway: &"spiffe://northmoor/council/gateway/main".parse().unwrap(),
            council: &"northmoor".parse().unwrap(),
        })
    }

    /// The whole default matrix, as a text that a council officer can read.
    #[test]
    fn the_default_council_policy_is_the_matrix_on_file() {
        let policies = Policies::parse(DEFAULT_COUNCIL_POLICY).unwrap();
        let mut matrix = String::new();
        for (name, who) in [
            ("holds the purpose", asker("northmoor", &["transport_planning"])),
            ("of another council", asker("southmere", &["transport_planning"])),
            ("holds another purpose", asker("northmoor", &["debt_recovery"])),
        ] {
            for class in [
                ReleaseClass::Open,
                ReleaseClass::Restricted,
                ReleaseClass::Aggregate,
                ReleaseClass::Warranted,
            ] {
                for action in [Action::SeeProduct, Action::ReadRows, Action::ReadCells] {
                    for why in ["transport_planning", "debt_recovery"] {
                        let said = if ask(&policies, &who, action, &subject(class), why).permits() {
                            "permit"
                        } else {
                            "forbid"
                        };
                        writeln!(matrix, "{name} | {class} | {} | {why} | {said}", action.as_str()).unwrap();
                    }
                }
            }
        }
        assert_eq!(matrix, include_str!("../vectors/council-matrix.txt"));
    }

    #[test]
    fn the_default_department_policy_asks_for_an_offered_purpose() {
        let policies = Policies::parse(DEFAULT_DEPARTMENT_POLICY).unwrap();
        let who = asker("northmoor", &["transport_planning", "debt_recovery"]);
        let what = subject(ReleaseClass::Aggregate);
        assert!(ask(&policies, &who, Action::ReadCells, &what, "transport_planning").permits());
        assert!(!ask(&policies, &who, Action::ReadCells, &what, "debt_recovery").permits());
    }

    #[test]
    fn a_forbid_names_itself() {
        let text = format!(
            "{DEFAULT_COUNCIL_POLICY}\n@id(\"no-foreigners\") forbid (principal, action, resource) when {{ principal.council != context.council }};"
        );
        let policies = Policies::parse(&text).unwrap();
        let who = asker("southmere", &["transport_planning"]);
        assert_eq!(
            ask(&policies, &who, Action::ReadRows, &subject(ReleaseClass::Open), "transport_planning"),
            Decision::Forbid { policies: vec!["no-foreigners".to_owned()] }
        );
    }

    #[test]
    fn a_policy_that_cannot_be_evaluated_forbids() {
        let text = format!(
            "{DEFAULT_COUNCIL_POLICY}\nforbid (principal, action, resource) when {{ 9223372036854775807 + 1 == 0 }};"
        );
        let policies = Policies::parse(&text).unwrap();
        let who = asker("northmoor", &["transport_planning"]);
        assert!(
            !ask(&policies, &who, Action::ReadRows, &subject(ReleaseClass::Open), "transport_planning").permits()
        );
    }

    #[test]
    fn a_policy_outside_the_schema_is_refused_when_it_is_read() {
        assert!(matches!(
            Policies::parse("permit (principal, action, resource) when { principal.shoe_size > 3 };"),
            Err(PolicyError::Schema { .. })
        ));
        assert!(matches!(Policies::parse("permit (principal"), Err(PolicyError::Syntax { .. })));
    }
}
