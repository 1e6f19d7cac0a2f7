"""Writes an HTML page that shows which priors learn which box, and why the others do not.

- recorder records the steps of a rule.
- outcomes explains each pair of a box and a prior.
- views packs the outcomes for the page.
- page writes the HTML file.
- source, rules and pictures choose the weights, the rules and the pictures.
"""
