//! The tree of a template, as its parser makes it.

use minijinja::machinery::ast::{CallArg, Expr, Stmt};

/// Reads a name and the constant fields behind it.
pub(super) fn path(expression: &Expr<'_>) -> Option<(String, Vec<String>)> {
    match expression {
        Expr::Var(name) => Some((name.id.to_owned(), Vec::new())),
        Expr::GetAttr(it) => {
            let (root, mut fields) = path(&it.expr)?;
            fields.push(it.name.to_owned());
            Some((root, fields))
        }
        Expr::GetItem(it) => {
            let field = it.subscript_expr.as_const()?.as_str()?.to_owned();
            let (root, mut fields) = path(&it.expr)?;
            fields.push(field);
            Some((root, fields))
        }
        _ => None,
    }
}

/// Returns the constant text of an argument.
pub(super) fn constant(arguments: &[CallArg<'_>], index: usize) -> Option<String> {
    match arguments.get(index)? {
        CallArg::Pos(expression) => Some(expression.as_const()?.as_str()?.to_owned()),
        _ => None,
    }
}

/// Returns the expression of an argument.
pub(super) fn value<'t, 's>(argument: &'t CallArg<'s>) -> &'t Expr<'s> {
    match argument {
        CallArg::Pos(it)
        | CallArg::Kwarg(_, it)
        | CallArg::PosSplat(it)
        | CallArg::KwargSplat(it) => it,
    }
}

/// Returns the expression that is called.
pub(super) fn callee<'t, 's>(expression: &'t Expr<'s>) -> &'t Expr<'s> {
    match expression {
        Expr::Call(it) => &it.expr,
        other => other,
    }
}

/// Lists the expressions of a statement, and the statements in it.
pub(super) fn parts<'t, 's>(statement: &'t Stmt<'s>) -> (Vec<&'t Expr<'s>>, Vec<&'t [Stmt<'s>]>) {
    match statement {
        Stmt::Template(it) => (vec![], vec![&it.children]),
        Stmt::EmitExpr(it) => (vec![&it.expr], vec![]),
        Stmt::EmitRaw(_) => (vec![], vec![]),
        Stmt::ForLoop(it) => (
            std::iter::once(&it.iter).chain(&it.filter_expr).collect(),
            vec![&it.body, &it.else_body],
        ),
        Stmt::IfCond(it) => (vec![&it.expr], vec![&it.true_body, &it.false_body]),
        Stmt::WithBlock(it) => (
            it.assignments.iter().map(|(_, value)| value).collect(),
            vec![&it.body],
        ),
        Stmt::Set(it) => (vec![&it.expr], vec![]),
        Stmt::SetBlock(it) => (it.filter.iter().collect(), vec![&it.body]),
        Stmt::AutoEscape(it) => (vec![&it.enabled], vec![&it.body]),
        Stmt::FilterBlock(it) => (vec![&it.filter], vec![&it.body]),
        Stmt::Do(it) => (
            std::iter::once(&it.call.expr)
                .chain(it.call.args.iter().map(value))
                .collect(),
            vec![],
        ),
    }
}

/// Lists the expressions within an expression.
pub(super) fn inner<'t, 's>(expression: &'t Expr<'s>) -> Vec<&'t Expr<'s>> {
    match expression {
        Expr::Var(_) | Expr::Const(_) => vec![],
        Expr::Slice(it) => std::iter::once(&it.expr)
            .chain(&it.start)
            .chain(&it.stop)
            .chain(&it.step)
            .collect(),
        Expr::UnaryOp(it) => vec![&it.expr],
        Expr::BinOp(it) => vec![&it.left, &it.right],
        Expr::Compare(it) => std::iter::once(&it.expr)
            .chain(it.ops.iter().map(|operand| &operand.expr))
            .collect(),
        Expr::IfExpr(it) => [&it.test_expr, &it.true_expr]
            .into_iter()
            .chain(&it.false_expr)
            .collect(),
        Expr::Filter(it) => it.expr.iter().chain(it.args.iter().map(value)).collect(),
        Expr::Test(it) => std::iter::once(&it.expr)
            .chain(it.args.iter().map(value))
            .collect(),
        Expr::GetAttr(it) => vec![&it.expr],
        Expr::GetItem(it) => vec![&it.expr, &it.subscript_expr],
        Expr::Call(it) => std::iter::once(&it.expr)
            .chain(it.args.iter().map(value))
            .collect(),
        Expr::List(it) => it.items.iter().collect(),
        Expr::Tuple(it) => it.items.iter().collect(),
        Expr::Map(it) => it.keys.iter().chain(&it.values).collect(),
    }
}
