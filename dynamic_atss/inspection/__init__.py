"""Which priors learn which box, and why the others do not: seen picture by picture, rule by rule.

recorder: what a rule does · fates: what became of each pair of a box and a prior · views: what the
page shows of it · page: one HTML file · source, rules, pictures: of which weights, rules, pictures
"""
