"""Made-up markets for development, as large as is wanted and the same for the same number.

    market  what all of it follows from                           hours         when: mostly in the evening
    town    where: the gazetteer, weighed by who lives there      homes, cars   what, and what is asked for it
    people  who: agents, sellers, buyers                          words         how it is said, in English and Amharic
    pictures, drawing   what is seen of it
    block   some thousand listings, as rows                       load          all blocks into the database

Nothing is written by hand here: each feature takes the rows of its tables in a module `bulk`.
"""
