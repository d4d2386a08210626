"""Laws that hold for any input, tested with inputs that Hypothesis makes."""
