package validation

import "regexp/syntax"

// MaxExpressionSize is the bound up to which an expression passes.
const MaxExpressionSize = maxExpressionSize

// ExpressionProblem says why an expression is refused; "" if it passes.
func ExpressionProblem(expr string) string {
	if len(expr) > maxExpression {
		return "long"
	}
	detail, _ := expressionProblem(expr, func(*syntax.Regexp) (detail, remedy string) { return "", "" })
	return detail
}

// ProgramSize is the bound on an expression's program.
func ProgramSize(expr string) int { return programSize(expr) }
