//! How tight the operators bind.

#![cfg_attr(
    not(any(test, feature = "__oracle")),
    expect(dead_code, reason = "some levels matter to printing only")
)]

use crate::ast::ArithOp;

pub(crate) const OR: u8 = 5;
pub(crate) const XOR: u8 = 7;
pub(crate) const AND: u8 = 10;
pub(crate) const NOT: u8 = 15;
pub(crate) const IS: u8 = 17;
/// LIKE, ILIKE and SIMILAR TO.
pub(crate) const LIKE: u8 = 19;
/// Comparisons, BETWEEN and IN.
pub(crate) const COMPARE: u8 = 20;
pub(crate) const SHIFT: u8 = 22;
pub(crate) const SUM: u8 = 30;
pub(crate) const PRODUCT: u8 = 40;
/// A sign before an operand.
pub(crate) const NEGATE: u8 = 50;
/// `a.b` and `a[0]`
pub(crate) const ACCESS: u8 = 60;
/// What needs no brackets anywhere.
pub(crate) const PRIMARY: u8 = 70;

pub(crate) fn of_arithmetic(op: ArithOp) -> u8 {
    match op {
        ArithOp::Add | ArithOp::Subtract | ArithOp::Concat => SUM,
        ArithOp::Multiply | ArithOp::Divide | ArithOp::Remainder => PRODUCT,
        ArithOp::ShiftLeft | ArithOp::ShiftRight => SHIFT,
    }
}
