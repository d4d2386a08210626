"""Laws that hold for any input, tried with inputs that Hypothesis makes up."""
