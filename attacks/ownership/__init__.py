"""Evidence of ownership: is a suspect made from the answers of this model, or an independent one of the same data?"""
