//! The values of a template that may have text beside them on their line of the output, whichever way the template takes.
//!
//! The tree comes from the template library's own parser, whose types have no semver.

use std::collections::BTreeSet;

use minijinja::Environment;
use minijinja::machinery::ast::Stmt;
use minijinja::machinery::parse;

use super::tree::parts;

/// Lists where the expressions begin that may have text beside them.
pub(super) fn text(engine: &Environment<'_>, source: &str) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    if let Ok(tree) = parse(source, "", engine.syntax().clone()) {
        for way in [Way::Forwards, Way::Backwards] {
            let mut walk = Walk {
                way,
                found: &mut found,
            };
            walk.statement(&tree, Line::default());
        }
    }
    found
}

/// The side of each value on which text is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Text before a value, from the beginning to the end.
    Forwards,
    /// Text behind a value, from the end to the beginning.
    Backwards,
}

/// The line of the output, as far as it was seen.
#[derive(Clone, Copy, Default)]
struct Line {
    may_have_text: bool,
    /// True within a filter, which may take blanks and line ends away.
    is_filtered: bool,
}

struct Walk<'f> {
    way: Way,
    found: &'f mut BTreeSet<usize>,
}

impl Walk<'_> {
    fn statements(&mut self, statements: &[Stmt<'_>], line: Line) -> Line {
        let way = self.way;
        let walk = |line, statement| self.statement(statement, line);
        match way {
            Way::Forwards => statements.iter().fold(line, walk),
            Way::Backwards => statements.iter().rev().fold(line, walk),
        }
    }

    /// Returns the line behind a statement.
    fn statement(&mut self, statement: &Stmt<'_>, line: Line) -> Line {
        match statement {
            Stmt::Template(it) => self.statements(&it.children, line),
            Stmt::EmitRaw(it) => self.raw(it.raw, line),
            Stmt::EmitExpr(it) => {
                if line.may_have_text {
                    self.found.insert(it.expr.span().start_offset as usize);
                }
                line
            }
            Stmt::IfCond(it) => {
                let taken = self.statements(&it.true_body, line);
                either(taken, self.statements(&it.false_body, line))
            }
            Stmt::ForLoop(it) => {
                // The second round begins where the first one ends, and so do all others.
                let once = either(line, self.statements(&it.body, line));
                let often = either(once, self.statements(&it.body, once));
                either(often, self.statements(&it.else_body, line))
            }
            Stmt::WithBlock(it) => self.statements(&it.body, line),
            Stmt::AutoEscape(it) => self.statements(&it.body, line),
            // The text becomes a value, and is written elsewhere.
            Stmt::SetBlock(it) => {
                self.statements(&it.body, Line::default());
                line
            }
            Stmt::FilterBlock(it) => {
                let inner = Line {
                    is_filtered: true,
                    ..line
                };
                let behind = self.statements(&it.body, inner);
                Line {
                    may_have_text: behind.may_have_text || holds_text(&it.body),
                    ..line
                }
            }
            Stmt::Set(_) | Stmt::Do(_) => line,
        }
    }

    fn raw(&self, raw: &str, line: Line) -> Line {
        let mut parts = raw.split(['\r', '\n']);
        let near = match self.way {
            Way::Forwards => parts.next_back(),
            Way::Backwards => parts.next(),
        };
        let has_text = near.is_some_and(|part| !part.trim().is_empty());
        let ends = raw.contains(['\r', '\n']) && !(line.is_filtered && raw.trim().is_empty());
        Line {
            may_have_text: has_text || (line.may_have_text && !ends),
            ..line
        }
    }
}

fn either(one: Line, other: Line) -> Line {
    Line {
        may_have_text: one.may_have_text || other.may_have_text,
        ..one
    }
}

fn holds_text(statements: &[Stmt<'_>]) -> bool {
    statements.iter().any(|statement| match statement {
        Stmt::EmitRaw(it) => !it.raw.trim().is_empty(),
        other => parts(other).1.into_iter().any(holds_text),
    })
}
