//! The audit: every name in every branch of a template is looked at before there is any value.
//!
//! The tree comes from the template library's own parser, whose types have no semver.

mod anything;
mod names;

use std::collections::BTreeSet;

use minijinja::machinery::ast::{BinOpKind, CallArg, Expr, Stmt};
use minijinja::machinery::{Span, parse};
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};

use super::tree::{callee, constant, inner, parts, path, value};
use crate::spelling::meant;

use anything::Anywhere;
pub(super) use names::{FILTERS, FUNCTIONS, TESTS};

/// A value that a template names: `root`, or `root.field`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    /// The outermost name, which the template does not give itself.
    pub(super) root: String,
    /// The names behind it.
    pub(super) fields: Vec<String>,
    /// The line in the template.
    pub(super) line: usize,
    /// True where the template says what happens if the value is not there.
    pub(super) may_be_missing: bool,
    /// True where the template writes the value as it is.
    pub(super) is_written: bool,
}

/// The values that a template names, and its mistakes.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The values that the template names.
    pub(super) paths: Vec<Path>,
    /// Filters, tests, functions and methods that are not there, or are not given what they need.
    pub(super) mistakes: Vec<String>,
}

/// Looks at every branch of a template whose syntax is right.
pub(super) fn audit(engine: &Environment<'_>, source: &str) -> Findings {
    let Ok(Stmt::Template(template)) = parse(source, "", engine.syntax().clone()) else {
        return Findings::default();
    };
    let mut lenient = engine.clone();
    lenient.set_undefined_behavior(UndefinedBehavior::Chainable);
    let mut auditor = Auditor {
        source,
        lenient,
        own: BTreeSet::from(["self".to_owned()]),
        guarded: BTreeSet::new(),
        findings: Findings::default(),
    };
    auditor.collect(&template.children);
    auditor.statements(&template.children);
    auditor.findings
}

struct Auditor<'a> {
    source: &'a str,
    /// The engine that is asked about filters, tests and functions.
    lenient: Environment<'a>,
    /// The names that the template gives: anywhere, so that one that is used too early is left to the rehearsal.
    own: BTreeSet<String>,
    /// The values with a default, or whose presence is tested.
    guarded: BTreeSet<(String, Vec<String>)>,
    findings: Findings,
}

impl Auditor<'_> {
    /// Notes which names the template gives itself.
    fn collect(&mut self, statements: &[Stmt<'_>]) {
        for statement in statements {
            match statement {
                Stmt::ForLoop(it) => {
                    self.own.insert("loop".to_owned());
                    self.assign(&it.target);
                }
                Stmt::WithBlock(it) => {
                    for (target, _) in &it.assignments {
                        self.assign(target);
                    }
                }
                Stmt::Set(it) => self.assign(&it.target),
                Stmt::SetBlock(it) => self.assign(&it.target),
                _ => {}
            }
            let (expressions, bodies) = parts(statement);
            for expression in expressions {
                self.guard(expression);
            }
            for body in bodies {
                self.collect(body);
            }
        }
    }

    fn assign(&mut self, target: &Expr<'_>) {
        match target {
            Expr::Var(name) => {
                self.own.insert(name.id.to_owned());
            }
            Expr::List(list) => list.items.iter().for_each(|item| self.assign(item)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| self.assign(item)),
            _ => {}
        }
    }

    fn guard(&mut self, expression: &Expr<'_>) {
        let subject = match expression {
            Expr::Filter(it) if ["d", "default"].contains(&it.name) => it.expr.as_ref(),
            Expr::Test(it) if ["defined", "undefined"].contains(&it.name) => Some(&it.expr),
            _ => None,
        };
        if let Some((root, fields)) = subject.and_then(path) {
            self.guarded.insert((root, fields));
        }
        for inner in inner(expression) {
            self.guard(inner);
        }
    }

    fn statements(&mut self, statements: &[Stmt<'_>]) {
        for statement in statements {
            let (expressions, bodies) = parts(statement);
            let before = self.findings.paths.len();
            for expression in expressions {
                self.expression(expression);
            }
            if let Stmt::EmitExpr(it) = statement {
                self.mark_written(&it.expr, before);
            }
            for body in bodies {
                self.statements(body);
            }
        }
    }

    /// Marks the values that stand alone between braces, or are joined there; those behind `before` are this statement's.
    fn mark_written(&mut self, expression: &Expr<'_>, before: usize) {
        match expression {
            Expr::BinOp(it) if matches!(it.op, BinOpKind::Concat) => {
                self.mark_written(&it.left, before);
                self.mark_written(&it.right, before);
            }
            _ => {
                let Some((root, fields)) = path(expression) else {
                    return;
                };
                let paths = self.findings.paths[before..].iter_mut();
                for path in paths.filter(|path| path.root == root && path.fields == fields) {
                    path.is_written = true;
                }
            }
        }
    }

    fn expression(&mut self, expression: &Expr<'_>) {
        if let Some((root, fields)) = path(expression) {
            if !self.own.contains(&root) && !self.is_function(&root) {
                let key = (root, fields);
                let may_be_missing = self.guarded.contains(&key);
                let (root, fields) = key;
                self.findings.paths.push(Path {
                    root,
                    fields,
                    line: line(expression.span()),
                    may_be_missing,
                    is_written: false,
                });
            }
            return;
        }
        match expression {
            Expr::Filter(it) => {
                self.filter(it.name, expression.span());
                let named = match it.name {
                    "map" => constant(&it.args, 0).map(|name| (true, name)),
                    "select" | "reject" => constant(&it.args, 0).map(|name| (false, name)),
                    "selectattr" | "rejectattr" => constant(&it.args, 1).map(|name| (false, name)),
                    _ => None,
                };
                match named {
                    Some((true, name)) => self.check_filter(&name, expression.span()),
                    Some((false, name)) => self.check_test(&name, expression.span()),
                    None => true,
                };
            }
            Expr::Test(it) => self.test(it.name, expression.span()),
            Expr::Slice(it) if !it.step.as_ref().is_none_or(is_forward) => {
                let text =
                    "the step of a slice is a positive number; `| reverse` turns a value around";
                self.report_mistake(expression.span(), text);
            }
            Expr::Call(it) => match &it.expr {
                Expr::Var(name) if self.own.contains(name.id) => {}
                Expr::Var(name) if self.is_function(name.id) => {
                    let text = self.text(expression.span());
                    self.probe(
                        &format!("{{{{ {text} }}}}"),
                        name.id,
                        "function",
                        expression.span(),
                    );
                }
                Expr::Var(name) => {
                    let meant = meant(name.id, FUNCTIONS);
                    let text = format!("unknown function `{}`{meant}", name.id);
                    self.report_mistake(expression.span(), &text);
                    return self.arguments(&it.args);
                }
                Expr::GetAttr(method) if !self.is_own(&method.expr) => {
                    let filter = if self.has_filter(method.name) {
                        format!("; `| {}` is a filter", method.name)
                    } else {
                        String::new()
                    };
                    let text =
                        format!("unknown method `{}`: a value has none{filter}", method.name);
                    self.report_mistake(expression.span(), &text);
                    self.expression(&method.expr);
                    return self.arguments(&it.args);
                }
                _ => {}
            },
            _ => {}
        }
        for inner in inner(expression) {
            // The name of a function is no value.
            let is_called = matches!((expression, inner), (Expr::Call(_), Expr::Var(_)))
                && std::ptr::eq(inner, callee(expression));
            if !is_called {
                self.expression(inner);
            }
        }
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>]) {
        for argument in arguments {
            self.expression(value(argument));
        }
    }

    fn filter(&mut self, name: &str, span: Span) {
        if self.check_filter(name, span) {
            let text = self.text(span);
            self.probe(
                &format!("{{{{ 'anything' | {text} }}}}"),
                name,
                "filter",
                span,
            );
        }
    }

    fn test(&mut self, name: &str, span: Span) {
        if self.check_test(name, span) {
            let text = self.text(span);
            self.probe(
                &format!("{{{{ 'anything' is {text} }}}}"),
                name,
                "test",
                span,
            );
        }
    }

    /// Checks a filter's name, and reports a mistake if there is no such filter.
    fn check_filter(&mut self, name: &str, span: Span) -> bool {
        let is_known = self.has_filter(name);
        if !is_known {
            let text = format!("unknown filter `{name}`{}", meant(name, FILTERS));
            self.report_mistake(span, &text);
        }
        is_known
    }

    /// Checks a test's name, and reports a mistake if there is no such test.
    fn check_test(&mut self, name: &str, span: Span) -> bool {
        let found = self.lenient.empty_state().perform_test(name, &[]);
        let is_known = !matches!(found, Err(error) if error.kind() == ErrorKind::UnknownTest);
        if !is_known {
            let text = format!("unknown test `{name}`{}", meant(name, TESTS));
            self.report_mistake(span, &text);
        }
        is_known
    }

    fn has_filter(&self, name: &str) -> bool {
        let found = self.lenient.empty_state().apply_filter(name, &[]);
        !matches!(found, Err(error) if error.kind() == ErrorKind::UnknownFilter)
    }

    fn is_function(&self, name: &str) -> bool {
        self.lenient.globals().any(|(known, _)| known == name)
    }

    /// Says whether the value comes from a name that the template gives, or from a call, and may have methods.
    fn is_own(&self, expression: &Expr<'_>) -> bool {
        match expression {
            Expr::Var(name) => self.own.contains(name.id),
            Expr::GetAttr(it) => self.is_own(&it.expr),
            Expr::GetItem(it) => self.is_own(&it.expr),
            Expr::Call(_) => true,
            _ => false,
        }
    }

    /// Tries a filter, test or function with something in the place of every value, as it may stand in a branch that
    /// no sample leads to: too few and too many arguments are mistakes, and all else is left to the values.
    fn probe(&mut self, template: &str, name: &str, what: &str, span: Span) {
        let globals = self.lenient.globals().map(|(name, _)| name.to_owned());
        let anything = Value::from_object(Anywhere(globals.collect()));
        let Err(error) = self.lenient.render_str(template, anything) else {
            return;
        };
        let text = match error.kind() {
            ErrorKind::MissingArgument => "lacks an argument",
            ErrorKind::TooManyArguments => "has an argument too many",
            _ => return,
        };
        self.report_mistake(span, &format!("the {what} `{name}` {text}"));
    }

    fn text(&self, span: Span) -> String {
        let range = span.start_offset as usize..span.end_offset as usize;
        self.source.get(range).unwrap_or_default().to_owned()
    }

    fn report_mistake(&mut self, span: Span, text: &str) {
        let text = format!("line {}: {text}", line(span));
        if !self.findings.mistakes.contains(&text) {
            self.findings.mistakes.push(text);
        }
    }
}

/// Says whether the step of a slice is a positive number as it stands. The engine panics at others where a value is empty.
fn is_forward(step: &Expr<'_>) -> bool {
    matches!(step, Expr::Const(step) if i64::try_from(step.value.clone()).is_ok_and(|step| step > 0))
}

fn line(span: Span) -> usize {
    span.start_line.into()
}
