"""Names that count as right, and words that sentences are asked about. A name that is missing is wrong."""

from __future__ import annotations

ANIMALS = frozenset(
    """alligator ant antelope ape badger bat bear beaver bee beetle bird bison boar buffalo bull
    butterfly camel cat caterpillar cheetah chicken chimpanzee clam cobra cod cow coyote crab crane
    cricket crocodile crow deer dog dolphin donkey dove dragonfly duck eagle eel elephant elk emu falcon
    ferret fish flamingo flea fly fox frog gazelle gecko giraffe goat goose gorilla grasshopper gull
    hamster hare hawk hedgehog hen heron hippo hippopotamus hornet horse hyena iguana jackal jaguar
    jellyfish kangaroo kitten kiwi koala ladybug lamb leopard lion lizard llama lobster lynx magpie
    mammoth mole monkey moose mosquito moth mouse mule newt octopus opossum ostrich otter owl ox oyster
    panda panther parrot peacock pelican penguin pheasant pig pigeon pony porcupine puma puppy python
    quail rabbit raccoon ram rat raven reindeer rhino rhinoceros robin rooster salamander salmon sardine
    scorpion seahorse seal shark sheep shrew shrimp skunk sloth slug snail snake sparrow spider squid
    squirrel starfish stork swan tadpole tapir termite tiger toad tortoise toucan trout tuna turkey
    turtle viper vulture walrus wasp weasel whale wolf wolverine wombat woodpecker worm yak zebra""".split()
)
FOODS = frozenset(
    """almond apple apricot artichoke asparagus avocado bacon bagel banana basil bean beef beet biscuit
    blackberry blueberry bread broccoli butter cabbage cake candy caramel carrot cashew cauliflower
    celery cereal cheese cherry chicken chili chocolate cinnamon coconut cookie corn cracker cranberry
    cream cucumber curry custard date donut dumpling egg eggplant fig fish garlic ginger grape
    grapefruit ham hamburger hazelnut honey hummus jam jelly ketchup kiwi lamb leek lemon lentil lettuce
    lime lobster mango margarine melon milk mint muffin mushroom mustard noodle nut nutmeg oatmeal olive
    omelet onion orange oregano pancake papaya paprika parsley pasta pastry pea peach peanut pear pecan
    pepper pickle pie pineapple pistachio pizza plum popcorn pork porridge potato pretzel pudding
    pumpkin radish raisin raspberry ravioli rice salad salami salmon salsa salt sandwich sauce sausage
    sesame shrimp soup soy spaghetti spinach squash steak strawberry sugar sushi syrup taco tea toast
    tofu tomato tuna turkey turnip vanilla vinegar waffle walnut watermelon wheat yam
    yogurt zucchini""".split()
)
COUNTRIES = frozenset(
    """afghanistan albania algeria andorra angola argentina armenia australia austria azerbaijan bahamas
    bahrain bangladesh barbados belarus belgium belize benin bhutan bolivia botswana brazil brunei
    bulgaria burundi cambodia cameroon canada chad chile china colombia croatia cuba cyprus denmark
    djibouti dominica ecuador egypt england eritrea estonia eswatini ethiopia fiji finland france gabon
    gambia georgia germany ghana greece grenada guatemala guinea guyana haiti honduras hungary iceland
    india indonesia iran iraq ireland israel italy jamaica japan jordan kazakhstan kenya kiribati kuwait
    kyrgyzstan laos latvia lebanon lesotho liberia libya liechtenstein lithuania luxembourg madagascar
    malawi malaysia maldives mali malta mauritania mauritius mexico micronesia moldova monaco mongolia
    montenegro morocco mozambique myanmar namibia nauru nepal netherlands nicaragua niger nigeria norway
    oman pakistan palau panama paraguay peru philippines poland portugal qatar romania russia rwanda
    samoa scotland senegal serbia seychelles singapore slovakia slovenia somalia spain sudan suriname
    sweden switzerland syria taiwan tajikistan tanzania thailand togo tonga tunisia turkey turkmenistan
    tuvalu uganda ukraine uruguay uzbekistan vanuatu venezuela vietnam wales yemen zambia zimbabwe""".split()
)
#: What a sentence can be asked to hold.
WORDS = tuple(
    """apple arm autumn baby bag ball bank basket bed bell bird boat book bottle bread bridge brother
    bus cake camera candle car castle cat chair child church city clock cloud coat coffee corner cow cup
    dance day desk doctor dog door dream dress driver ear egg evening eye family farm father field fire
    fish floor flower forest friend garden gift girl glass grass guitar hair hand hat heart hill horse
    hospital house ice island key king kitchen lake lamp leaf letter light lion market milk mirror money
    moon morning mother mountain mouse music neck night nose ocean orange paper park pen phone picture
    plate queen rain river road roof room rose sand school sea shadow ship shirt shoe shop silver sister
    sky snow song spoon spring star stone story street sugar summer sun table tea teacher tower town
    train tree village voice wall water wind window winter wood yellow""".split()
)
